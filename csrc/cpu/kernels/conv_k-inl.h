#pragma once

#include "cpu/kernels/conv_k.h"

namespace cnnext {
namespace {

constexpr ConvKUkernels kConvKUkernels = {};

}  // namespace
}  // namespace cnnext
