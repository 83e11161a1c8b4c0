#pragma once

#include "settings.hpp"

#include <espalier/io/folder_lock.hpp>

#include <memory>
#include <string>

namespace espalier::programs {

/// The folder --out: a run's checkpoints, one a stage, and what is written beside them.
class RunFolder {
public:
    /// For verbs that write to it, makes the folder and locks it against other processes. The settings must outlive it.
    /// @throws IoError  if it can't be made, or another process writes to it
    explicit RunFolder(const Settings& settings);

    /// Whether this process writes to it.
    bool is_written() const { return lock_ != nullptr; }
    /// Path of one of its files.
    std::string path(const std::string& file) const { return settings_.out + "/" + file; }
    /// The checkpoint to work on: that of --from, or else this one of the folder.
    std::string from_or(const std::string& file) const { return settings_.from.empty() ? path(file) : settings_.from; }
    /// That of --from, or else the furthest stage that the folder holds.
    std::string from_or_latest() const;
    /// @throws IoError  for who has not run the verb before this one: if there is no such checkpoint
    void expect_checkpoint(const std::string& file) const;

private:
    const Settings& settings_;
    std::unique_ptr<FolderLock> lock_;
};

} // namespace espalier::programs
