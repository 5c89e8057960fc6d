# How every target of the user-mode rooms is built: one set of warnings, one place for the sanitizers.

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

option(BULKHEAD_SANITIZE "Build the user-mode code with ASan and UBSan" OFF)
option(BULKHEAD_FUZZ "Build the libFuzzer targets (clang only)" OFF)
set(BULKHEAD_FUZZ_SECONDS 20 CACHE STRING "How long each libFuzzer target runs as a test")

set(BULKHEAD_WARNINGS -Wall -Wextra -Werror -Wpedantic -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Wcast-align
                      -Woverloaded-virtual -Wimplicit-fallthrough -Wundef)

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(GTest REQUIRED)
include(GoogleTest)
enable_testing()

add_library(bulkhead_options INTERFACE)
target_include_directories(bulkhead_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(bulkhead_options INTERFACE ${BULKHEAD_WARNINGS})
if(BULKHEAD_SANITIZE)
  target_compile_options(bulkhead_options INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all
                                                    -fno-omit-frame-pointer)
  target_link_options(bulkhead_options INTERFACE -fsanitize=address,undefined)
endif()
if(BULKHEAD_FUZZ)
  target_compile_options(bulkhead_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

add_library(bulkhead_fmt STATIC ${CMAKE_CURRENT_LIST_DIR}/fmt.cpp)
target_link_libraries(bulkhead_fmt PUBLIC bulkhead_options)
target_include_directories(bulkhead_fmt SYSTEM PUBLIC $<TARGET_PROPERTY:fmt::fmt,INTERFACE_INCLUDE_DIRECTORIES>)

# bulkhead_library(NAME SOURCES ... [DEPENDS ...]): the static library bulkhead_NAME. DEPENDS names rooms or targets.
function(bulkhead_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  add_library(bulkhead_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(bulkhead_${name} PUBLIC bulkhead_options ${ARG_DEPENDS})
endfunction()

# bulkhead_program(NAME SOURCES ... [DEPENDS ...]): a program of that name.
function(bulkhead_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE bulkhead_options ${ARG_DEPENDS})
  if(NOT BULKHEAD_SANITIZE)
    # The dynamic linker's work for the C++ library would be half of a small program's start (docs/performance.md).
    target_link_options(${name} PRIVATE -static-libstdc++ -static-libgcc)
  endif()
endfunction()

# bulkhead_test(NAME SOURCES ... [DEPENDS ...] [LABEL unit]): a GoogleTest program, one ctest test for each of its cases.
function(bulkhead_test name)
  cmake_parse_arguments(ARG "" "LABEL" "SOURCES;DEPENDS" ${ARGN})
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  add_executable(test_${name} ${ARG_SOURCES})
  target_link_libraries(test_${name} PRIVATE bulkhead_options ${ARG_DEPENDS} GTest::gmock_main)
  # A test's own code runs once; optimizing it takes most of a build's time, and GCC 12 then warns of what is not there.
  target_compile_options(test_${name} PRIVATE -O0)
  gtest_discover_tests(test_${name} TEST_PREFIX "${name}." PROPERTIES LABELS ${ARG_LABEL} TIMEOUT 120
                       DISCOVERY_TIMEOUT 60)
endfunction()

# bulkhead_fuzzer(NAME SOURCES ... [DEPENDS ...]): a libFuzzer program. In the fuzz preset it is a test with the label
# fuzz, of BULKHEAD_FUZZ_SECONDS. Everywhere else the inputs that are kept in corpus/NAME beside it, if there are any,
# are tried once, as a unit test.
function(bulkhead_fuzzer name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  set(kept ${CMAKE_CURRENT_SOURCE_DIR}/corpus/${name})
  if(BULKHEAD_FUZZ)
    add_executable(fuzz_${name} ${ARG_SOURCES})
    target_link_libraries(fuzz_${name} PRIVATE bulkhead_options ${ARG_DEPENDS})
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    set(learned ${CMAKE_SOURCE_DIR}/build/corpus/fuzz_${name})
    file(MAKE_DIRECTORY ${learned})
    if(NOT EXISTS ${kept})
      set(kept "")
    endif()
    add_test(NAME fuzz.${name}
             COMMAND fuzz_${name} -max_total_time=${BULKHEAD_FUZZ_SECONDS} -timeout=10 -rss_limit_mb=2048
                     -artifact_prefix=${learned}. -print_final_stats=1 ${learned} ${kept})
    math(EXPR limit "${BULKHEAD_FUZZ_SECONDS} + 120")
    set_tests_properties(fuzz.${name} PROPERTIES LABELS fuzz TIMEOUT ${limit})
  elseif(EXISTS ${kept})
    add_executable(replay_${name} ${ARG_SOURCES} ${CMAKE_SOURCE_DIR}/tests/fuzz_replay.cpp)
    target_link_libraries(replay_${name} PRIVATE bulkhead_options ${ARG_DEPENDS})
    add_test(NAME fuzz.${name}.corpus COMMAND replay_${name} ${kept})
    set_tests_properties(fuzz.${name}.corpus PROPERTIES LABELS unit TIMEOUT 120)
  endif()
endfunction()
