// The tiles of products on tensor cores: where their elements lie, that no bank of shared memory is met
// twice, and which tile and how many slices a shape gets.
#include <vector>

#include "check.h"
#include "cuda/mma_banks.cuh"

using namespace cnnext::cuda;

namespace {

static_assert(tiles_are_free<float>() && tiles_are_free<float16>());

// A tile without the change of places: its rows lie in the same banks.
struct Plain : MmaOperand<float16, 64, true> {
  CNNEXT_INDEX static int at(int line, int term) { return line * kDepth + term; }
  template <bool kIsA>
  CNNEXT_INDEX static int matrix_row(int lane, int line0, int term0) {
    return at(line0 + lane % 8, term0);
  }
};

void conflicts_are_seen() {
  CHECK(copies_are_free<Plain>());
  CHECK((!fragments_are_free<Plain, true>()));
  const int apart[] = {0, 4, 60}, same_word[] = {0, 0, 2}, same_bank[] = {0, 132, 64};
  CHECK(meet_no_bank_twice(apart, 4));
  CHECK(meet_no_bank_twice(same_word, 2));
  CHECK(meet_no_bank_twice(same_bank, 4));
  CHECK(!meet_no_bank_twice(same_bank, 8));
}

// Every element has a place of its own, and every chunk one thread that copies it whole.
template <class Operand>
void check_places() {
  std::vector<int> at(Operand::kValues), copied(Operand::kValues);
  for (int line = 0; line < Operand::kLines; ++line) {
    for (int term = 0; term < Operand::kDepth; ++term) ++at[static_cast<size_t>(Operand::at(line, term))];
  }
  for (int thread = 0; thread < kMmaThreads; ++thread) {
    for (int i = 0; i < Operand::kCopies; ++i) {
      const auto place = Operand::copied(thread, i);
      const int first = Operand::at(place.line, place.term);
      for (int j = 0; j < Operand::kChunk; ++j) {
        const int line = place.line + (Operand::kAlongDepth ? 0 : j);
        const int term = place.term + (Operand::kAlongDepth ? j : 0);
        CHECK_EQ(Operand::at(line, term), first + j);
        ++copied[static_cast<size_t>(first + j)];
      }
    }
  }
  for (const int count : at) CHECK_EQ(count, 1);
  for (const int count : copied) CHECK_EQ(count, 1);
}
void places() {
  check_places<MmaOperand<float, 64, true>>();
  check_places<MmaOperand<float, 128, false>>();
  check_places<MmaOperand<float16, 64, true>>();
  check_places<MmaOperand<float16, 128, true>>();
  check_places<MmaOperand<float16, 64, false>>();
  check_places<MmaOperand<float16, 128, false>>();
}

constexpr int64_t kSms = 132;  // an H100's

int64_t columns_of(const MmaWork& work) { return kMmaShapes[choose_mma(work, kSms).shape].columns; }
int64_t rows_of(const MmaWork& work) { return kMmaShapes[choose_mma(work, kSms).shape].rows; }

void tiles_follow_the_shape() {
  // Plenty of work: the tile that multiplies fastest; few columns: none that stays empty.
  const MmaWork much{32 * 28 * 28, 512, 1, 36, 0, 1}, narrow{32 * 56 * 56, 64, 1, 18, 0, 1};
  CHECK_EQ(rows_of(much), 128);
  CHECK_EQ(columns_of(much), 128);
  CHECK_EQ(rows_of(narrow), 128);
  CHECK_EQ(columns_of(narrow), 64);
  // 49 pixels: small tiles fill more multiprocessors.
  const MmaWork few{49, 2048, 1, 16, 0, 1};
  CHECK_EQ(rows_of(few), 64);
  // What is gathered has one tile, whatever its shape.
  CHECK_EQ(rows_of({32 * 28 * 28, 512, 1, 36, 2, 1}), 64);
  CHECK_EQ(columns_of({32 * 28 * 28, 512, 1, 36, 1, 1}), 64);  // and TF32 none of 128 columns
  // The same tiles on a device twice as large.
  CHECK_EQ(choose_mma({64 * 28 * 28, 512, 1, 36, 0, 1}, 2 * kSms).shape, choose_mma(much, kSms).shape);
}

void wgmma_is_taken_where_it_is_faster() {
  constexpr int k128x128 = 0, k128x256 = 1;
  const auto choose = [](const MmaWork& work) { return choose_wgmma(work, 2, kSms); };
  // The wider tile multiplies faster, where there are columns for it and as many rounds of tiles.
  const MmaWork much{256 * 14 * 14, 256, 1, 72, 0, 1};
  CHECK_EQ(choose(much), k128x256);
  CHECK_EQ(choose({32 * 56 * 56, 256, 1, 2, 0, 1}), k128x256);
  CHECK_EQ(choose({256 * 28 * 28, 128, 1, 36, 0, 1}), k128x128);
  CHECK_EQ(choose({256 * 28 * 28, 384, 1, 36, 0, 1}), k128x128);  // a quarter would stay empty
  CHECK_EQ(choose({32 * 14 * 14, 256, 1, 72, 0, 1}), k128x128);   // one round of either
  CHECK_EQ(choose({32 * 56 * 56, 64, 1, 18, 0, 1}), kByMma);      // half of the columns would stay empty
  CHECK_EQ(choose({49, 2048, 1, 16, 0, 1}), kByMma);              // too few tiles
  // TF32 has the first alone.
  CHECK_EQ(choose_wgmma({256 * 14 * 14, 256, 1, 144, 1, 1}, kWgmmaShapeCount<float>, kSms), k128x128);
  CHECK_EQ(kWgmmaShapeCount<bfloat16>, 2);
  // Never what takes longer by the model.
  for (int64_t rows = 50; rows < 100000; rows += rows) {
    for (int64_t columns = 40; columns < 3000; columns += columns / 2) {
      const MmaWork work{rows, columns, 1, 32, 0, 1};
      const MmaShape& taken =
          choose(work) == kByMma ? kMmaShapes[choose_mma(work, kSms).shape] : kWgmmaShapes[choose(work)];
      for (const MmaShape& other : kWgmmaShapes) {
        CHECK(mma_clocks(work, taken, 1, kSms) <= mma_clocks(work, other, 1, kSms));
      }
    }
  }
}

void slices_fill_the_device() {
  // The weights' gradient of a 3x3 convolution of 64 channels at 56 x 56: few tiles, a long sum.
  const MmaWork small{64, 576, 1, 32 * 56 * 56 / 32, 0, 512};
  const MmaChoice choice = choose_mma(small, kSms);
  const MmaShape& shape = kMmaShapes[choice.shape];
  const int64_t tiles = ceil_div(64, shape.rows) * ceil_div(576, shape.columns) * choice.slices;
  CHECK(tiles >= kSms * 3 / 4);
  // Whole sums where the tiles fill it anyway, and where the sum has no length.
  CHECK_EQ(choose_mma({8192, 8192, 1, 49, 0, 12}, kSms).slices, 1);
  CHECK_EQ(choose_mma({64, 576, 1, 3, 0, 1}, kSms).slices, 1);
  for (int64_t most = 1; most < 40; ++most) {
    const MmaWork work{64, 576, 1, 3136, 0, most};
    const MmaChoice limited = choose_mma(work, kSms);
    CHECK(limited.slices >= 1 && limited.slices <= most);
    for (const MmaShape& other : kMmaShapes) {  // not all are tried
      for (int64_t slices = 1; slices <= most; ++slices) {
        CHECK(mma_clocks(work, kMmaShapes[limited.shape], limited.slices, kSms) * 10 <=
              mma_clocks(work, other, slices, kSms) * 11);
      }
    }
  }
}

}  // namespace

int main() {
  RUN(conflicts_are_seen);
  RUN(places);
  RUN(tiles_follow_the_shape);
  RUN(wgmma_is_taken_where_it_is_faster);
  RUN(slices_fill_the_device);
  return check::result();
}
