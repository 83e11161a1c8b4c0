from pathlib import Path

from conan import ConanFile
from conan.tools.cmake import CMake, cmake_layout


class EspalierTest(ConanFile):
    """Builds tests/build/consumer with the package, and runs it."""

    settings = "os", "compiler", "build_type", "arch"
    generators = "CMakeToolchain", "CMakeDeps"

    def requirements(self):
        self.requires(self.tested_reference_str)

    def layout(self):
        cmake_layout(self)

    @property
    def compiled(self):
        return bool(self.dependencies["espalier"].options.compiled)

    def build(self):
        cmake = CMake(self)
        consumer = Path(self.recipe_folder) / "../../../tests/build/consumer"
        cmake.configure(variables={"COMPILED": self.compiled}, build_script_folder=str(consumer))
        cmake.build()

    def test(self):
        for program in ("consumer", "consumer_compiled")[: 2 if self.compiled else 1]:
            self.run(str(Path(self.build_folder) / program), env="conanrun")
