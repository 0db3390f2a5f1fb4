// The terms of a sum, in order, as numbers of three digits (taps and channels, or a pixel's place): where
// their elements lie follows by adding, so that a kernel divides once and not for every term.
#pragma once

#include "cuda/index.cuh"

namespace cnnext::cuda {

// What an index adds to the places of the two operands' elements in memory, and to the position in the image
// of the one that may lie in the padding. Positions wrap: what is negative is a large number.
struct Offsets {
  int64_t a, b;
  uint32_t h, w;
};
CNNEXT_INDEX Offsets operator+(const Offsets& x, const Offsets& y) {
  return {x.a + y.a, x.b + y.b, x.h + y.h, x.w + y.w};
}
CNNEXT_INDEX Offsets operator*(int64_t n, const Offsets& x) {
  return {n * x.a, n * x.b, static_cast<uint32_t>(n) * x.h, static_cast<uint32_t>(n) * x.w};
}

class TermWalk {
 public:
  struct Term {
    int32_t inner, middle;  // digits
    Offsets at;
  };
  struct Step {
    int32_t inner, middle;
    Offsets at;
  };

  // How many values the inner digit (which runs fastest) and the middle one have, and what each digit's 1 is
  // worth.
  TermWalk(int64_t inner, int64_t middle, const Offsets& of_inner, const Offsets& of_middle,
           const Offsets& of_outer)
      : by_inner_(greatest(inner, 1)), by_middle_(greatest(middle, 1)), unit_{of_inner, of_middle, of_outer} {
    carry_inner_ = unit_[1] + -by_inner_.divisor() * unit_[0];
    carry_middle_ = unit_[2] + -by_middle_.divisor() * unit_[1];
  }

  // The step from a term to the one `by` further.
  CNNEXT_INDEX Step step(int64_t by) const {
    const int64_t outer = by / by_inner_.divisor(), inner = by % by_inner_.divisor();
    const int64_t middle = outer % by_middle_.divisor();
    return {static_cast<int32_t>(inner), static_cast<int32_t>(middle),
            inner * unit_[0] + middle * unit_[1] + outer / by_middle_.divisor() * unit_[2]};
  }
  CNNEXT_INDEX Term start(int64_t k) const {
    int64_t inner = k, middle = by_inner_.split(&inner);
    const int64_t outer = by_middle_.split(&middle);
    return {static_cast<int32_t>(inner), static_cast<int32_t>(middle),
            inner * unit_[0] + middle * unit_[1] + outer * unit_[2]};
  }
  CNNEXT_INDEX void advance(Term* term, const Step& step) const {
    term->inner += step.inner;
    term->middle += step.middle;
    term->at = term->at + step.at;
    const auto inner = static_cast<int32_t>(by_inner_.divisor()),
               middle = static_cast<int32_t>(by_middle_.divisor());
    if (term->inner >= inner) {
      term->inner -= inner;
      term->middle += 1;
      term->at = term->at + carry_inner_;
    }
    if (term->middle >= middle) {
      term->middle -= middle;
      term->at = term->at + carry_middle_;
    }
  }

 private:
  FastDivisor by_inner_, by_middle_;
  Offsets unit_[3], carry_inner_, carry_middle_;
};

}  // namespace cnnext::cuda
