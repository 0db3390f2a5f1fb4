"""What test_interop_jax_processes.py runs in a process with two CPU devices."""

import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import cnnext.interop.jax as cxj
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

try:
    from jax import shard_map

    shard_map = partial(shard_map, check_vma=False)
except ImportError:
    from jax.experimental.shard_map import shard_map

    shard_map = partial(shard_map, check_rep=False)

DEVICES = jax.devices()
assert len(DEVICES) == 2
MESH = Mesh(np.array(DEVICES), ("batch",))
SPLIT, WHOLE = NamedSharding(MESH, P("batch")), NamedSharding(MESH, P())


def normal(*shape: int) -> Any:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


X = normal(4, 3, 8, 8)
PARAMS = normal(6, 3, 3, 3), normal(6), normal(8, 6, 1, 1), normal(5, 8 * 4)


def loss(params: Any, x: Any) -> Any:
    w, b, v, dense = params
    y = cxj.conv2d_relu_max_pool2d(x, w, b, padding=1, pool_size=2)
    y, indices = cxj.max_pool2d(cxj.conv2d(y, v, activation="silu"), 2, return_indices=True)
    y = y + cxj.avg_pool2d(cxj.max_unpool2d(y, indices, 2), 2)
    return (cxj.linear(y.reshape(len(x), -1), dense) ** 2).mean()


def same(given: Any, wanted: Any) -> None:
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), given, wanted)


gradients = jax.value_and_grad(loss)
wanted = jax.jit(gradients)(PARAMS, X)
params, x = jax.device_put(PARAMS, WHOLE), jax.device_put(X, SPLIT)

step = jax.jit(gradients)
same(step(params, x), wanted)
if jax.config.jax_use_shardy_partitioner:  # the default since jax 0.7; arrays are gathered under the other
    text = step.lower(params, x).compile().as_text()
    calls = re.findall(r"= \(?(\w+\[[\d,]*\]).* custom_call_target=\"cnnext\"", text)
    assert "f32[2,6,4,4]" in calls, calls  # half of the images each
    assert not re.search(r"all-gather|all-to-all|collective-permute|CustomSPMDPartitioning", text)
    assert jax.jit(cxj.conv2d)(x, params[0]).sharding.is_equivalent_to(SPLIT, 4)
# What mixes images, or is split otherwise, is right as well.
norm = jax.jit(lambda x: cxj.batch_norm(x, None, None, training=True))
same(norm(x), cxj.batch_norm(X, None, None, training=True))
by_rows = jax.device_put(X, NamedSharding(MESH, P(None, None, "batch")))
same(jax.jit(cxj.conv2d)(by_rows, params[0]), cxj.conv2d(X, PARAMS[0]))
print("jit")


def local(params: Any, x: Any) -> Any:
    return jax.tree.map(lambda t: jax.lax.pmean(t, "batch"), gradients(params, x))


same(jax.jit(shard_map(local, mesh=MESH, in_specs=(P(), P("batch")), out_specs=P()))(params, x), wanted)
print("shard_map")

# Both devices and several threads at once: cnnext's pool serves one call, others run on their own threads.
inputs = [jax.device_put((PARAMS, X), device) for device in DEVICES]
with ThreadPoolExecutor(4) as threads:
    for result in threads.map(lambda i: step(*inputs[i % 2]), range(40)):
        same(result, wanted)
print("together")
