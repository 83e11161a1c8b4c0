#include "fuzz.hpp"

#include <espalier/io/safetensors.hpp>

using namespace espalier;

namespace {

bool same(const AnyTensor& a, const AnyTensor& b) {
    return std::visit(
        [&]<class A>(const A& x) {
            const A* const y = std::get_if<A>(&b);
            if constexpr (std::is_same_v<A, ForeignTensor>)
                return y && x.type == y->type && x.shape == y->shape;
            else
                return y && x.shape() == y->shape() &&
                       (x.size() == 0 ||
                        std::memcmp(x.data(), y->data(), sizeof(*x.data()) * std::size_t(x.size())) == 0);
        },
        a);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string path = fuzz::write("tensors.safetensors", data, data + size);
    const auto file = fuzz::read([&] { return read_safetensors(path); });
    if (!file) return 0;
    const std::string copy = (fuzz::folder() / "copy.safetensors").string();
    const auto written = fuzz::read([&] {
        write_safetensors(*file, copy);
        return true;
    });
    if (!written) return 0; // an element type that the writer does not know
    const TensorFile again = read_safetensors(copy);
    fuzz::require(again.metadata == file->metadata && again.entries().size() == file->entries().size());
    for (std::size_t i = 0; i < again.entries().size(); ++i) {
        const auto &a = file->entries()[i], &b = again.entries()[i];
        fuzz::require(a.name == b.name && same(a.tensor, b.tensor));
    }
    return 0;
}
