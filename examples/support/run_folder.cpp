#include "run_folder.hpp"

#include <filesystem>

namespace espalier::programs {

RunFolder::RunFolder(const Settings& settings) : settings_(settings) {
    const bool writes_elsewhere = settings.verb == "plan" && !settings.plan_file.empty();
    if (settings.verb == "eval" || settings.verb == "bench" || writes_elsewhere) return;
    std::error_code error;
    std::filesystem::create_directories(settings.out, error);
    expect<IoError>(!error, settings.verb, ": expected to write to the folder ", settings.out, ", got ",
                    error.message());
    lock_ = std::make_unique<FolderLock>(settings.out);
}

std::string RunFolder::from_or_latest() const {
    for (const char* file : {"finetuned.safetensors", "pruned.safetensors"})
        if (std::filesystem::exists(path(file))) return from_or(file);
    return from_or("dense.safetensors");
}

void RunFolder::expect_checkpoint(const std::string& file) const {
    expect<IoError>(std::filesystem::exists(file), settings_.verb, ": expected the checkpoint ", file,
                    ", got no such file; --out or --from names where it is");
}

} // namespace espalier::programs
