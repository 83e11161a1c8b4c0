from pathlib import Path
import re

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout
from conan.tools.files import copy


class Espalier(ConanFile):
    """Packs the tree that this file lies in. Random123 is in no Conan package: it comes from the system."""

    name = "espalier"
    description = "Deep learning with structured sparsity, headers only"
    license = "MIT"
    topics = ("deep-learning", "pruning", "structured-sparsity", "header-only")
    settings = "os", "compiler", "build_type", "arch"
    options = {"compiled": [True, False], "openmp": [True, False]}
    default_options = {"compiled": False, "openmp": True}
    generators = "CMakeDeps"

    def set_version(self):
        config = (Path(self.recipe_folder) / "../../include/espalier/core/config.hpp").read_text()
        self.version = re.search('define ESPALIER_VERSION "(.*)"', config)[1]

    def configure(self):
        self.package_type = "static-library" if self.options.compiled else "header-library"

    def export_sources(self):
        tree = Path(self.recipe_folder) / "../.."
        for pattern in ("CMakeLists.txt", "LICENSE", "cmake/*", "include/*"):
            copy(self, pattern, tree, self.export_sources_folder)

    def requirements(self):
        self.requires("zlib/[>=1.2.11 <2]", transitive_headers=True)
        self.requires("nlohmann_json/[>=3.9 <4]", transitive_headers=True)

    def package_id(self):
        if not self.info.options.compiled:
            self.info.settings.clear()

    def layout(self):
        cmake_layout(self)

    def generate(self):
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables |= {
            "ESPALIER_INSTALL_COMPILED": bool(self.options.compiled),
            "ESPALIER_WITH_OPENMP": bool(self.options.openmp),
            "CMAKE_DISABLE_FIND_PACKAGE_JPEG": True,  # link libjpeg yourself for data/jpeg.hpp
            "ESPALIER_NATIVE": False,  # a package is for other machines: the profile's flags decide
            **{f"ESPALIER_BUILD_{what}": False for what in ("TESTS", "EXAMPLES", "BENCHMARKS")},
        }
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        CMake(self).install()

    def package_info(self):
        # find_package(espalier) finds the project's own package files, so there is one description of the targets.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = ["lib/cmake/espalier"]
        if self.options.compiled:
            self.cpp_info.libs = ["espalier_compiled"]
