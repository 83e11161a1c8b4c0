#pragma once

#include <espalier/io/safetensors.hpp>

namespace espalier::test {

/// `tests/golden/<name>.safetensors`, read once: what PyTorch computed.
inline const TensorFile& golden(const std::string& name) {
    static std::map<std::string, TensorFile> files;
    const auto at = files.find(name);
    if (at != files.end()) return at->second;
    return files[name] = read_safetensors(ESPALIER_TEST_DATA "/" + name + ".safetensors");
}

} // namespace espalier::test
