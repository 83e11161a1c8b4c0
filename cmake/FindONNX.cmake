# ONNX: the protobuf messages of its files. The package config of Debian's libonnx-dev points to folders that are not there.
find_path(ONNX_INCLUDE_DIR onnx/onnx_pb.h)
find_library(ONNX_PROTO_LIBRARY onnx_proto)
find_library(ONNX_LIBRARY onnx)
mark_as_advanced(ONNX_INCLUDE_DIR ONNX_PROTO_LIBRARY ONNX_LIBRARY)
find_package(Protobuf QUIET)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(ONNX REQUIRED_VARS ONNX_PROTO_LIBRARY ONNX_LIBRARY ONNX_INCLUDE_DIR Protobuf_FOUND)

if(ONNX_FOUND AND NOT TARGET ONNX::proto)
  add_library(ONNX::proto INTERFACE IMPORTED)
  set_target_properties(
    ONNX::proto PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${ONNX_INCLUDE_DIR}"
                           INTERFACE_LINK_LIBRARIES "${ONNX_PROTO_LIBRARY};protobuf::libprotobuf")
  add_library(ONNX::ONNX INTERFACE IMPORTED) # and its checker
  set_target_properties(ONNX::ONNX PROPERTIES INTERFACE_LINK_LIBRARIES "${ONNX_LIBRARY};ONNX::proto")
endif()
