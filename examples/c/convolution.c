/* A convolution on threads and in scratch memory of one's own, checked against a plain loop. */
#include <cnnext/cnnext.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 2, C = 16, H = 30, W = 27, K = 24, R = 3, THREADS = 3 };
/* Padding 1 and stride 1: the result is as large as the image. */
enum { X_SIZE = N * C * H * W, W_SIZE = K * C * R * R, Y_SIZE = N * K * H * W };

static float x[X_SIZE], w[W_SIZE], bias[K], y[Y_SIZE], again[Y_SIZE];

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, cnnext_last_error());
  return 1;
}

/* ---- the caller's threads: each takes the next index until none is left ---- */

typedef struct {
  cnnext_task task;
  void* arg;
  int64_t count;
  atomic_llong next;
} Work;

static void* take(void* work_) {
  Work* work = work_;
  int64_t i;
  while ((i = atomic_fetch_add(&work->next, 1)) < work->count) work->task(work->arg, i);
  return NULL;
}

static void parallel_for(void* user, int64_t count, cnnext_task task, void* arg) {
  Work work = {task, arg, count, 0};
  pthread_t threads[THREADS - 1];
  int started = 0;
  *(long long*)user += count;
  while (started < THREADS - 1 && pthread_create(&threads[started], NULL, take, &work) == 0) ++started;
  take(&work);
  while (started > 0) pthread_join(threads[--started], NULL);
}

/* ---- tensors and the plain loop ---- */

static cnnext_tensor image(float* data, int64_t n, int64_t c, int64_t h, int64_t v) {
  cnnext_tensor t = {data, CNNEXT_FLOAT32, 4, CNNEXT_CPU, 0, {n, c, h, v}, {c * h * v, h * v, v, 1}};
  return t;
}

static double expected(int n, int k, int p, int q) {
  double sum = bias[k];
  for (int c = 0; c < C; ++c) {
    for (int r = 0; r < R; ++r) {
      for (int s = 0; s < R; ++s) {
        const int h = p + r - 1, v = q + s - 1;
        if (h < 0 || h >= H || v < 0 || v >= W) continue;
        sum += (double)x[((n * C + c) * H + h) * W + v] * w[((k * C + c) * R + r) * R + s];
      }
    }
  }
  return sum > 0 ? sum : 0;
}

static double largest_error(void) {
  double largest = 0;
  for (int n = 0; n < N; ++n) {
    for (int k = 0; k < K; ++k) {
      for (int p = 0; p < H; ++p) {
        for (int q = 0; q < W; ++q) {
          const double error = fabs(y[((n * K + k) * H + p) * W + q] - expected(n, k, p, q));
          if (!(error <= largest)) largest = error; /* NaN counts, too */
        }
      }
    }
  }
  return largest;
}

static void fill(float* values, int count) {
  for (int i = 0; i < count; ++i) values[i] = (float)rand() / (float)RAND_MAX - 0.5f;
}

int main(void) {
  if (CNNEXT_CHECK_VERSION() != CNNEXT_OK || cnnext_init() != CNNEXT_OK) return failed("cnnext");
  fill(x, X_SIZE);
  fill(w, W_SIZE);
  fill(bias, K);

  cnnext_conv2d_params params = CNNEXT_CONV2D_PARAMS_INIT;
  for (int side = 0; side < 4; ++side) params.padding[side] = 1;
  params.activation = CNNEXT_ACT_RELU;
  const cnnext_tensor tx = image(x, N, C, H, W), tw = image(w, K, C, R, R);
  const cnnext_tensor tb = {bias, CNNEXT_FLOAT32, 1, CNNEXT_CPU, 0, {K}, {1}};
  cnnext_tensor ty = image(y, N, K, H, W);

  /* A plan runs nothing; it says what the call would need. */
  cnnext_plan plan = CNNEXT_PLAN_INIT;
  long long tasks = 0;
  cnnext_context context = CNNEXT_CONTEXT_INIT;
  context.parallel_for = parallel_for;
  context.parallel_for_user = &tasks;
  context.num_threads = THREADS;
  context.plan = &plan;
  if (cnnext_conv2d(&context, &params, &tx, &tw, &tb, NULL, &ty) != CNNEXT_OK) return failed("plan");

  context.plan = NULL;
  context.workspace_bytes = (size_t)plan.scratch_bytes + 64; /* 64: it may be aligned anyhow */
  context.workspace = malloc(context.workspace_bytes);
  if (!context.workspace) return 1;
  const cnnext_status status = cnnext_conv2d(&context, &params, &tx, &tw, &tb, NULL, &ty);
  free(context.workspace);
  if (status != CNNEXT_OK) return failed("conv2d");

  /* cnnext's own threads and memory give the same bits. */
  ty.data = again;
  if (cnnext_conv2d(NULL, &params, &tx, &tw, &tb, NULL, &ty) != CNNEXT_OK) return failed("conv2d again");
  const double error = largest_error();
  printf("%s: %lld tasks on %d threads, %llu bytes of scratch, largest error %.1e\n", plan.kernel, tasks,
         THREADS, (unsigned long long)plan.scratch_bytes, error);
  if (!(error < 1e-4) || tasks == 0 || memcmp(y, again, sizeof(y)) != 0) {
    fprintf(stderr, "the result is wrong\n");
    return 1;
  }
  return 0;
}
