# The handler that XLA calls (docs/jax.md), against the jaxlib that the build's Python has, if it has one and can see it: pip hides what is
# installed unless it is told --no-build-isolation. Its file is named after that jaxlib. Without it one is compiled on first use.
set(CNNEXT_JAX_HANDLER AUTO CACHE STRING "Build JAX's handler into the package: AUTO (where jaxlib is importable) or OFF")
set_property(CACHE CNNEXT_JAX_HANDLER PROPERTY STRINGS AUTO OFF)
if(NOT CNNEXT_JAX_HANDLER OR NOT SKBUILD OR NOT CNNEXT_BUILD_PYTHON)
  return()
endif()

set(handler_folder ${CMAKE_CURRENT_SOURCE_DIR}/python/cnnext/interop/jax)
set(handler_header ${CMAKE_CURRENT_SOURCE_DIR}/csrc/include/cnnext/cnnext.h)
execute_process(
  COMMAND ${Python_EXECUTABLE} ${handler_folder}/_handler_file.py ${PROJECT_VERSION} ${handler_header}
  OUTPUT_VARIABLE handler_found RESULT_VARIABLE handler_failed OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(handler_failed)
  message(STATUS "No JAX handler: the build's Python has no jaxlib")
  return()
endif()
string(REPLACE "\n" ";" handler_found "${handler_found}")
list(GET handler_found 0 handler_name)
list(GET handler_found 1 handler_include)
# A jaxlib whose headers have changed must not keep cnnext from being installed.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
try_compile(handler_compiles ${CMAKE_CURRENT_BINARY_DIR}/jax_handler SOURCES ${handler_folder}/handler.cpp
  CMAKE_FLAGS "-DINCLUDE_DIRECTORIES=${handler_include};${CMAKE_CURRENT_SOURCE_DIR}/csrc/include"
  CXX_STANDARD 17 CXX_STANDARD_REQUIRED ON OUTPUT_VARIABLE handler_output)
unset(CMAKE_TRY_COMPILE_TARGET_TYPE)
if(NOT handler_compiles)
  message(STATUS "No JAX handler: it does not compile against ${handler_include}\n${handler_output}")
  return()
endif()
message(STATUS "JAX handler: ${handler_name}")
add_library(jax_handler MODULE ${handler_folder}/handler.cpp)
target_include_directories(jax_handler SYSTEM PRIVATE ${handler_include})
target_link_libraries(jax_handler PRIVATE cnnext)
get_filename_component(handler_stem ${handler_name} NAME_WLE)
set_target_properties(jax_handler PROPERTIES PREFIX "" OUTPUT_NAME ${handler_stem} SUFFIX .so BUILD_WITH_INSTALL_RPATH ON
  INSTALL_RPATH $<IF:$<PLATFORM_ID:Darwin>,@loader_path,$ORIGIN>)
install(TARGETS jax_handler LIBRARY DESTINATION ${SKBUILD_PROJECT_NAME})
