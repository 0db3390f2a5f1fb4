/* The C ABI from plain C, as an outsider links it: a convolution on the caller's own threads and workspace,
 * dry runs, and refusals. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cnnext/cnnext.h"

static int failures = 0;
#define CHECK(condition)                                                                                    \
  do {                                                                                                      \
    if (!(condition)) {                                                                                     \
      fprintf(stderr, "%s:%d: %s (last error: %s)\n", __FILE__, __LINE__, #condition, cnnext_last_error()); \
      ++failures;                                                                                           \
    }                                                                                                       \
  } while (0)

enum { N = 2, C = 5, H = 9, W = 11, K = 7, R = 3, S = 2, P = 5, Q = 13 };
/* P = (9 + 1 + 2 - 3) / 2 + 1, Q = (11 + 0 + 3 - 2) / 1 + 1 */

static cnnext_tensor tensor(void* data, int ndim, const int64_t* shape) {
  cnnext_tensor t;
  int64_t stride = 1;
  int i;
  memset(&t, 0, sizeof(t));
  t.data = data;
  t.dtype = CNNEXT_FLOAT32;
  t.ndim = ndim;
  t.device_type = CNNEXT_CPU;
  for (i = ndim - 1; i >= 0; --i) {
    t.shape[i] = shape[i];
    t.strides[i] = stride;
    stride *= shape[i];
  }
  return t;
}

static cnnext_tensor tensor4(void* data, int64_t a, int64_t b, int64_t c, int64_t d) {
  const int64_t shape[4] = {a, b, c, d};
  return tensor(data, 4, shape);
}

static void fill(float* values, size_t count, unsigned seed) {
  size_t i;
  for (i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    values[i] = (float)(seed >> 8) / (float)(1 << 24) - 0.5f;
  }
}

static cnnext_conv2d_params params(void) {
  cnnext_conv2d_params p = CNNEXT_CONV2D_PARAMS_INIT;
  p.stride[0] = 2;
  p.padding[0] = 1;
  p.padding[1] = 2;
  p.padding[3] = 3;
  return p;
}

/* The plain loops, for the same parameters. */
static double expected(const float* x, const float* w, const float* bias, int n, int k, int p, int q) {
  double sum = bias[k];
  int c, r, s;
  for (c = 0; c < C; ++c) {
    for (r = 0; r < R; ++r) {
      for (s = 0; s < S; ++s) {
        const int h = p * 2 - 1 + r, v = q + s;
        if (h < 0 || h >= H || v >= W) continue;
        sum += (double)x[((n * C + c) * H + h) * W + v] * w[((k * C + c) * R + r) * S + s];
      }
    }
  }
  return sum;
}

/* ---- the caller's own threads ---- */
typedef struct {
  cnnext_task task;
  void* arg;
  int64_t first, count;
} Share;
typedef struct {
  int calls;
  int64_t tasks;
} Seen;

static void* run_share(void* arg) {
  const Share* share = (const Share*)arg;
  int64_t i;
  for (i = share->first; i < share->count; i += 2) share->task(share->arg, i);
  return NULL;
}

static void own_parallel_for(void* user, int64_t count, cnnext_task task, void* arg) {
  Seen* seen = (Seen*)user;
  Share shares[2] = {{task, arg, 0, count}, {task, arg, 1, count}};
  pthread_t thread;
  seen->calls += 1;
  seen->tasks += count;
  if (pthread_create(&thread, NULL, run_share, &shares[1]) == 0) {
    run_share(&shares[0]);
    pthread_join(thread, NULL);
  } else {
    run_share(&shares[0]);
    run_share(&shares[1]);
  }
}

static float x[N * C * H * W], w[K * C * R * S], bias[K], y[N * K * P * Q];

static int matches(const float* result) {
  int n, k, p, q;
  for (n = 0; n < N; ++n) {
    for (k = 0; k < K; ++k) {
      for (p = 0; p < P; ++p) {
        for (q = 0; q < Q; ++q) {
          const double want = expected(x, w, bias, n, k, p, q);
          if (!(fabs(result[((n * K + k) * P + p) * Q + q] - want) < 1e-5)) return 0;
        }
      }
    }
  }
  return 1;
}

static void convolution(void) {
  const int64_t bias_shape[1] = {K};
  const cnnext_conv2d_params p = params();
  const cnnext_tensor tx = tensor4(x, N, C, H, W), tw = tensor4(w, K, C, R, S);
  const cnnext_tensor tb = tensor(bias, 1, bias_shape);
  cnnext_tensor ty;
  int threads;
  memset(&ty, 0, sizeof(ty));
  CHECK(cnnext_conv2d(NULL, &p, &tx, &tw, &tb, NULL, &ty) == CNNEXT_OK); /* a dry run: no data */
  CHECK(ty.ndim == 4 && ty.shape[0] == N && ty.shape[1] == K && ty.shape[2] == P && ty.shape[3] == Q);
  CHECK(ty.strides[3] == 1 && ty.strides[0] == (int64_t)K * P * Q && ty.dtype == CNNEXT_FLOAT32);
  for (threads = 1; threads <= 4; ++threads) {
    memset(y, 0xff, sizeof(y));
    ty.data = y;
    CHECK(cnnext_set_num_threads(threads) == CNNEXT_OK && cnnext_get_num_threads() == threads);
    CHECK(cnnext_conv2d(NULL, &p, &tx, &tw, &tb, NULL, &ty) == CNNEXT_OK);
    CHECK(matches(y));
    CHECK(cnnext_last_kernel()[0] != '\0');
  }
}

/* Large enough to be worth several threads; the bits do not depend on whose they are. */
static void own_threads_and_workspace(void) {
  enum {
    BN = 2,
    BC = 16,
    BH = 40,
    BW = 37,
    BK = 33,
    COUNT_X = BN * BC * BH * BW,
    COUNT_Y = BN * BK * BH * BW
  };
  static float big_x[COUNT_X], big_w[BK * BC * 9], by_pool[COUNT_Y], by_own[COUNT_Y];
  cnnext_conv2d_params p = CNNEXT_CONV2D_PARAMS_INIT;
  const cnnext_tensor tx = tensor4(big_x, BN, BC, BH, BW), tw = tensor4(big_w, BK, BC, 3, 3);
  cnnext_tensor ty = tensor4(by_pool, BN, BK, BH, BW);
  cnnext_context context = CNNEXT_CONTEXT_INIT;
  Seen seen = {0, 0};
  uint64_t scratch;
  size_t i;
  unsigned char* workspace;

  p.padding[0] = p.padding[1] = p.padding[2] = p.padding[3] = 1;
  fill(big_x, COUNT_X, 4);
  fill(big_w, BK * BC * 9, 5);
  CHECK(cnnext_set_num_threads(2) == CNNEXT_OK); /* scratch may grow with the threads */
  CHECK(cnnext_conv2d(NULL, &p, &tx, &tw, NULL, NULL, &ty) == CNNEXT_OK);
  scratch = cnnext_last_scratch_bytes();
  workspace = (unsigned char*)malloc((size_t)scratch + 64 + 64);
  CHECK(workspace != NULL);
  if (!workspace) return;
  memset(workspace, 0xa5, (size_t)scratch + 128);

  context.parallel_for = own_parallel_for;
  context.parallel_for_user = &seen;
  context.num_threads = 2;
  context.workspace = workspace + 1; /* any alignment */
  context.workspace_bytes = (size_t)scratch + 64;
  memset(by_own, 0xff, sizeof(by_own));
  ty.data = by_own;
  CHECK(cnnext_conv2d(&context, &p, &tx, &tw, NULL, NULL, &ty) == CNNEXT_OK);
  CHECK(memcmp(by_own, by_pool, sizeof(by_own)) == 0);
  CHECK(seen.calls > 0 && seen.tasks > seen.calls);
  CHECK(cnnext_last_scratch_bytes() == scratch);
  CHECK(workspace[0] == 0xa5);
  for (i = (size_t)scratch + 65; i < (size_t)scratch + 128; ++i) CHECK(workspace[i] == 0xa5);

  context.workspace_bytes = 1; /* too small: the rest comes from the library */
  memset(by_own, 0xff, sizeof(by_own));
  CHECK(cnnext_conv2d(&context, &p, &tx, &tw, NULL, NULL, &ty) == CNNEXT_OK);
  CHECK(memcmp(by_own, by_pool, sizeof(by_own)) == 0);
  free(workspace);
}

static void packed_weights(void) {
  const int64_t bias_shape[1] = {K};
  const cnnext_conv2d_params p = params();
  const cnnext_tensor tx = tensor4(x, N, C, H, W), tw = tensor4(w, K, C, R, S);
  const cnnext_tensor tb = tensor(bias, 1, bias_shape);
  cnnext_tensor ty = tensor4(y, N, K, P, Q);
  cnnext_packed_weight* packed = NULL;
  CHECK(cnnext_pack_weight(NULL, &p, &tw, 0, NULL, &packed) == CNNEXT_OK);
  CHECK(packed != NULL && cnnext_packed_weight_bytes(packed) > 0);
  memset(y, 0xff, sizeof(y));
  CHECK(cnnext_conv2d_packed(NULL, &p, &tx, packed, &tb, NULL, &ty) == CNNEXT_OK);
  CHECK(matches(y));
  cnnext_packed_weight_free(packed);
  cnnext_packed_weight_free(NULL);
}

/* A plan for memory that nobody has. */
static float* nowhere(int i) { return (float*)((uintptr_t)i << 56); }

static void plans(void) {
  const cnnext_conv2d_params p = params();
  const cnnext_tensor tx = tensor4(nowhere(1), N, C, H, W), tw = tensor4(nowhere(2), K, C, R, S);
  cnnext_tensor ty = tensor4(nowhere(3), N, K, P, Q), real_x = tensor4(x, N, C, H, W);
  cnnext_tensor real_w = tensor4(w, K, C, R, S), real_y = tensor4(y, N, K, P, Q);
  cnnext_plan plan = CNNEXT_PLAN_INIT;
  cnnext_context context = CNNEXT_CONTEXT_INIT;
  CHECK(cnnext_conv2d(NULL, &p, &real_x, &real_w, NULL, NULL, &real_y) == CNNEXT_OK);
  context.plan = &plan;
  CHECK(cnnext_conv2d(&context, &p, &tx, &tw, NULL, NULL, &ty) == CNNEXT_OK);
  CHECK(plan.kernel != NULL && strcmp(plan.kernel, cnnext_last_kernel()) == 0);
  CHECK(plan.scratch_bytes == cnnext_last_scratch_bytes());
  CHECK(plan.tasks > 0 && plan.num_threads == cnnext_get_num_threads());
  CHECK(cnnext_add(&context, &tx, &tx, &real_x) == CNNEXT_NOT_IMPLEMENTED);
  context.backend = CNNEXT_BACKEND_CUDA;
  CHECK(cnnext_conv2d(&context, &p, &tx, &tw, NULL, NULL, &ty) == CNNEXT_NOT_IMPLEMENTED);
  context.backend = CNNEXT_BACKEND_AUTO;
  plan.size = 8;
  CHECK(cnnext_conv2d(&context, &p, &tx, &tw, NULL, NULL, &ty) == CNNEXT_INVALID_VALUE);
  CHECK(strstr(cnnext_last_error(), "plan's size") != NULL);
  /* A caller of before there were plans. */
  context.size = offsetof(cnnext_context, plan);
  memset(y, 0xff, sizeof(y));
  CHECK(cnnext_conv2d(&context, &p, &real_x, &real_w, NULL, NULL, &real_y) == CNNEXT_OK);
  CHECK(y[0] == y[0]);
}

static void refusals(void) {
  cnnext_conv2d_params p = params();
  cnnext_tensor tx = tensor4(x, N, C, H, W), tw = tensor4(w, K, C, R, S), ty;
  cnnext_context context = CNNEXT_CONTEXT_INIT;
  memset(&ty, 0, sizeof(ty));
  CHECK(cnnext_conv2d(NULL, &p, NULL, &tw, NULL, NULL, &ty) == CNNEXT_INVALID_VALUE);
  CHECK(cnnext_conv2d(NULL, NULL, &tx, &tw, NULL, NULL, &ty) == CNNEXT_INVALID_VALUE);
  CHECK(cnnext_conv2d(NULL, &p, &tx, &tw, NULL, NULL, NULL) == CNNEXT_INVALID_VALUE);
  p.stride[0] = 0;
  CHECK(cnnext_conv2d(NULL, &p, &tx, &tw, NULL, NULL, &ty) == CNNEXT_INVALID_VALUE);
  CHECK(strstr(cnnext_last_error(), "stride") != NULL);
  p = params();
  p.size = 4;
  CHECK(cnnext_conv2d(NULL, &p, &tx, &tw, NULL, NULL, &ty) == CNNEXT_INVALID_VALUE);
  p = params();
  tw.shape[1] = C + 1;
  CHECK(cnnext_conv2d(NULL, &p, &tx, &tw, NULL, NULL, &ty) == CNNEXT_INVALID_VALUE);
  tw.shape[1] = C;
  tx.dtype = CNNEXT_INT32;
  CHECK(cnnext_conv2d(NULL, &p, &tx, &tw, NULL, NULL, &ty) == CNNEXT_INVALID_TYPE);
  tx.dtype = 77;
  CHECK(cnnext_conv2d(NULL, &p, &tx, &tw, NULL, NULL, &ty) == CNNEXT_INVALID_TYPE);
  tx.dtype = CNNEXT_FLOAT32;
  tx.ndim = -3;
  CHECK(cnnext_conv2d(NULL, &p, &tx, &tw, NULL, NULL, &ty) == CNNEXT_INVALID_VALUE);
  tx.ndim = 4;
  context.size = 3;
  CHECK(cnnext_conv2d(&context, &p, &tx, &tw, NULL, NULL, &ty) == CNNEXT_INVALID_VALUE);
  CHECK(cnnext_set_num_threads(0) == CNNEXT_INVALID_VALUE);
  CHECK(cnnext_set_num_threads(1025) == CNNEXT_INVALID_VALUE);
}

/* Prepared images: a flip and a colour, row-major, into memory of the caller's. */
static void images(void) {
  enum { HEIGHT = 2, WIDTH = 3 };
  const int64_t map_shape[3] = {1, 2, 3}, color_shape[3] = {1, 1, 2};
  unsigned char pixels[HEIGHT * WIDTH] = {0, 51, 102, 153, 204, 255};
  double flip[6] = {1, 0, 0, 0, -1, WIDTH - 1};
  float invert[2] = {-1.0f, 1.0f}, result[HEIGHT * WIDTH];
  const float expected[HEIGHT * WIDTH] = {0.6f, 0.8f, 1.0f, 0.0f, 0.2f, 0.4f};
  cnnext_augment_params p = CNNEXT_AUGMENT_PARAMS_INIT;
  cnnext_tensor tx = tensor4(pixels, 1, 1, HEIGHT, WIDTH), ty = tensor4(NULL, 0, 0, 0, 0);
  cnnext_tensor map = tensor(flip, 3, map_shape), color = tensor(invert, 3, color_shape);
  int i;
  tx.dtype = CNNEXT_UINT8;
  map.dtype = CNNEXT_FLOAT64;
  p.scale = 1.0 / 255;
  CHECK(cnnext_augment(NULL, &p, &tx, &map, &color, NULL, NULL, &ty) == CNNEXT_OK);
  CHECK(ty.ndim == 4 && ty.shape[2] == HEIGHT && ty.shape[3] == WIDTH && ty.dtype == CNNEXT_FLOAT32);
  ty.data = result;
  CHECK(cnnext_augment(NULL, &p, &tx, &map, &color, NULL, NULL, &ty) == CNNEXT_OK);
  for (i = 0; i < HEIGHT * WIDTH; ++i) CHECK(fabsf(result[i] - expected[i]) < 1e-6f);
  CHECK(cnnext_augment(NULL, NULL, &tx, &map, &color, NULL, NULL, &ty) == CNNEXT_INVALID_VALUE);
  CHECK(cnnext_augment(NULL, &p, &tx, &color, NULL, NULL, NULL, &ty) == CNNEXT_INVALID_TYPE);
  /* What is read for each image must not be written to meanwhile, be it small. */
  ty.data = flip;
  CHECK(cnnext_augment(NULL, &p, &tx, &map, NULL, NULL, NULL, &ty) == CNNEXT_INVALID_VALUE);
  ty.data = result;
  color.data = result + HEIGHT * WIDTH - 2;
  CHECK(cnnext_augment(NULL, &p, &tx, NULL, &color, NULL, NULL, &ty) == CNNEXT_INVALID_VALUE);
  ty.strides[3] = 2;
  CHECK(cnnext_augment(NULL, &p, &tx, &map, NULL, NULL, NULL, &ty) == CNNEXT_INVALID_VALUE);
}

/* Two images blended; the result may share memory with nothing that is read. */
static void blends(void) {
  const int64_t shape[1] = {2};
  float pixels[2] = {0.0f, 1.0f}, weights[2] = {0.75f, 0.25f}, result[2];
  int64_t partners[2] = {1, 0};
  cnnext_tensor tx = tensor4(pixels, 2, 1, 1, 1), ty = tensor4(result, 2, 1, 1, 1);
  cnnext_tensor partner = tensor(partners, 1, shape), weight = tensor(weights, 1, shape);
  partner.dtype = CNNEXT_INT64;
  CHECK(cnnext_mix_images(NULL, &tx, &partner, &weight, &ty) == CNNEXT_OK);
  CHECK(result[0] == 0.25f && result[1] == 0.25f);
  ty.data = weights;
  CHECK(cnnext_mix_images(NULL, &tx, &partner, &weight, &ty) == CNNEXT_INVALID_VALUE);
  ty.data = partners;
  CHECK(cnnext_mix_images(NULL, &tx, &partner, &weight, &ty) == CNNEXT_INVALID_VALUE);
  ty.data = pixels;
  CHECK(cnnext_mix_images(NULL, &tx, &partner, &weight, &ty) == CNNEXT_INVALID_VALUE);
}

static void questions(void) {
  int32_t i;
  char list[64];
  CHECK(cnnext_init() == CNNEXT_OK);
  CHECK(strcmp(cnnext_version(), "") != 0 && strcmp(cnnext_build_info(), "") != 0);
  snprintf(list, sizeof(list), ",%s,", cnnext_isa_available());
  CHECK(strstr(list, ",scalar,") != NULL);
  CHECK(strstr(cnnext_isa_available(), cnnext_isa()) != NULL);
  for (i = 0; cnnext_op_name(i); ++i) {
    const int takes_indices = strcmp(cnnext_op_name(i), "convert_indices") == 0;
    CHECK(cnnext_op_supported(CNNEXT_BACKEND_REF, cnnext_op_name(i),
                              takes_indices ? CNNEXT_INT64 : CNNEXT_FLOAT32) == 1);
  }
  CHECK(i > 20 && cnnext_op_name(-1) == NULL);
  CHECK(cnnext_op_supported(CNNEXT_BACKEND_CPU, "no_such_op", CNNEXT_FLOAT32) == -1);
  CHECK(cnnext_op_supported(CNNEXT_BACKEND_CPU, NULL, CNNEXT_FLOAT32) == -1);
}

int main(void) {
  fill(x, sizeof(x) / sizeof(x[0]), 1);
  fill(w, sizeof(w) / sizeof(w[0]), 2);
  fill(bias, K, 3);
  questions();
  convolution();
  own_threads_and_workspace();
  packed_weights();
  plans();
  refusals();
  images();
  blends();
  printf("%s\n", failures ? "FAILED" : "ok");
  return failures != 0;
}
