#pragma once

#include <espalier/data/file.hpp>
#include <espalier/tensor/tensor.hpp>

#include <cstdio> // jpeglib.h names FILE

// Not part of espalier.hpp: it needs libjpeg-turbo, which the CMake target espalier::jpeg links.
#if !__has_include(<jpeglib.h>)
#error "espalier/data/jpeg.hpp: expected libjpeg-turbo, found no jpeglib.h; Debian's libjpeg62-turbo-dev brings it"
#endif
#include <jpeglib.h>
#ifndef LIBJPEG_TURBO_VERSION
#error "espalier/data/jpeg.hpp: expected libjpeg-turbo, found another libjpeg, whose pixels differ"
#endif

#include <csetjmp>
#include <filesystem>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

/// A decoder whose errors come back to `setjmp(decoder.failed)`, described in `text`.
struct JpegDecoder {
    jpeg_decompress_struct jpeg{};
    jpeg_error_mgr errors{};
    std::jmp_buf failed;
    char text[JMSG_LENGTH_MAX] = "";

    JpegDecoder() {
        jpeg.err = jpeg_std_error(&errors);
        jpeg.client_data = this;
        errors.error_exit = [](j_common_ptr common) {
            auto& decoder = *static_cast<JpegDecoder*>(common->client_data);
            (*common->err->format_message)(common, decoder.text);
            std::longjmp(decoder.failed, 1);
        };
        errors.emit_message = [](j_common_ptr common, int level) { // below 0: a warning, after which pixels are guessed
            if (level < 0) (*common->err->error_exit)(common);
        };
    }
    ~JpegDecoder() { jpeg_destroy_decompress(&jpeg); }
    JpegDecoder(const JpegDecoder&) = delete;
    JpegDecoder& operator=(const JpegDecoder&) = delete;

    /// Whether `step` ended without an error of the decoder. It must own nothing: an error leaves it without unwinding.
    template <class Step> bool succeeds(const Step& step) {
        if (setjmp(failed) != 0) return false;
        step();
        return true;
    }
};

} // namespace detail

/// Decodes a JPEG file, colour or grayscale, into RGB bytes of pixels [H,W,3].
///
/// The decoder's defaults: the accurate integer DCT and smooth upsampling of colours, so the pixels are those that PIL
/// and everything else on libjpeg-turbo sees. The three channels of a grayscale image are equal.
/// @throws IoError naming the file if it is not a JPEG, is damaged or cut off, has four colours (CMYK) or another size
inline void read_jpeg(const std::filesystem::path& path, View<std::uint8_t, 3> pixels) {
    const FileBytes file = read_file(path);
    detail::JpegDecoder decoder;
    jpeg_decompress_struct& jpeg = decoder.jpeg;
    const auto decode = [&](const auto& step) {
        expect<IoError>(decoder.succeeds(step), "read_jpeg: expected a whole JPEG image, got \"", decoder.text,
                        "\" from ", path.string());
    };
    decode([&] {
        jpeg_create_decompress(&jpeg);
        jpeg_mem_src(&jpeg, file.bytes.data(), static_cast<unsigned long>(file.size()));
        jpeg_read_header(&jpeg, TRUE);
    });
    expect<IoError>(jpeg.num_components == 1 || jpeg.num_components == 3,
                    "read_jpeg: expected a colour or grayscale image, got ", jpeg.num_components,
                    " colour components from ", path.string());
    const Shape expected{pixels.size(0), pixels.size(1), pixels.size(2)}, got{jpeg.image_height, jpeg.image_width, 3};
    expect<IoError>(got == expected, "read_jpeg: expected an image ", expected, ", got ", got, " from ", path.string());
    decode([&] {
        jpeg.out_color_space = JCS_RGB;
        jpeg_start_decompress(&jpeg);
        while (jpeg.output_scanline < jpeg.output_height) {
            JSAMPROW row = pixels.at(jpeg.output_scanline);
            jpeg_read_scanlines(&jpeg, &row, 1);
        }
        jpeg_finish_decompress(&jpeg);
    });
}

} // namespace espalier::inline ESPALIER_BACKEND
