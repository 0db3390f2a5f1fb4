"""The tape: order, accumulation, graphs of gradients, in-place changes, errors."""

import gc
import threading
import weakref

import cnnext as cx
import numpy as np
import pytest
from _helpers_nn import check_gradients, check_second_order
from cnnext import autograd, tape


def leaf(*values, dtype=np.float64):
    return cx.Tensor(np.array(values, dtype), requires_grad=True)


# ---- what backward computes ----


def test_backward_through_a_diamond_sums_both_ways():
    x = leaf(2.0, 3.0)
    y = x * x
    (y * y + y).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 4 * x.detach().numpy() ** 3 + 2 * x.detach().numpy())


def test_a_primitive_with_rules_of_its_own():
    @tape.primitive
    def cube(x, *, scale):
        return scale * x**3

    tape.defvjp(cube, lambda g, x, scale: g * (3.0 * scale) * x * x)
    check_gradients(lambda x: cube(x, scale=2.0), np.array([0.3, -1.2]))
    check_second_order(lambda x: cube(x, scale=2.0), np.array([0.3, -1.2]))


def test_only_what_a_wanted_rule_names_is_kept():
    x, w = leaf(1.0, 2.0), cx.Tensor(np.array([3.0, 4.0]))
    product = x * w
    assert [name for name, *_ in product.grad_fn.saved] == ["y"]  # w alone: no gradient of w is wanted
    assert [name for name, *_ in (x + w).grad_fn.saved] == []
    kept = weakref.ref(x * 2)
    assert kept() is None


def test_only_needed_gradients_are_computed():
    calls = []

    @tape.primitive
    def product(x, y):
        return x * y

    def rule(name, other):
        calls.append(name)
        return other

    tape.defvjp(product, lambda g, y: rule("x", g * y), lambda g, x: rule("y", g * x))
    x, y = leaf(2.0), leaf(3.0)
    product(x, cx.Tensor(np.array([3.0]))).sum().backward()
    assert calls == ["x"]
    calls.clear()
    cx.grad(product(x * 1.0, y * 1.0).sum(), y)
    assert calls == ["y"]


def test_joint_rule_and_outputs_without_gradient():
    @tape.primitive(nondiff=(2,))
    def parts(x, y):
        return x + y, np.argsort(x), x * 2

    tape.defvjp(parts, joint=lambda g, gs, wanted: (g if wanted[0] else None, g if wanted[1] else None))
    x, y = leaf(2.0, 1.0), leaf(5.0, 6.0)
    total, order, twice = parts(x, y)
    assert total.requires_grad
    assert not order.requires_grad
    assert not twice.requires_grad
    total.sum().backward()
    np.testing.assert_array_equal(y.grad.numpy(), [1, 1])


def test_several_differentiable_outputs():
    @tape.primitive
    def both(x):
        return x * 2, x * x

    tape.defvjp(
        both,
        lambda gs, x: sum(g * d for g, d in zip(gs, (2.0, 2.0 * x), strict=True) if g is not None),
    )
    check_gradients(both, np.array([0.5, -2.0]))
    x = leaf(3.0)
    assert cx.grad(both(x)[1], x)[0].item() == 6.0


def test_the_second_output_alone_skips_rules_that_ask_for_the_first():
    @tape.primitive
    def both(x):
        return x * 2, x * 3

    tape.defvjp(both, lambda g: g * 2.0)
    x = leaf(3.0)
    assert cx.grad(both(x)[1], x, allow_unused=True) == (None,)


def test_engine_unbroadcasts_and_casts():
    x = cx.Tensor(np.ones((3, 1), np.float32), requires_grad=True)
    y = cx.Tensor(np.ones((2, 1, 4)), requires_grad=True)
    (x * y).sum().backward()
    assert x.grad.shape == (3, 1)
    assert x.grad.dtype == np.float32
    assert y.grad.dtype == np.float64
    np.testing.assert_array_equal(x.grad.numpy(), np.full((3, 1), 8))
    np.testing.assert_array_equal(y.grad.numpy(), np.full((2, 1, 4), 3))


# ---- accumulation ----


def test_gradients_accumulate_over_backward_calls():
    x = leaf(1.0, 2.0)
    (x * 2).sum().backward()
    held = x.grad
    (x * 3).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [5, 5])
    assert held is x.grad


def test_grads_never_share_memory_with_each_other_or_with_the_caller():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    incoming = cx.Tensor(np.array([10.0, 20.0]))
    (x + y).backward(incoming)
    arrays = [x.grad.data, y.grad.data, incoming.data]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])
    x.grad.data[:] = -1
    np.testing.assert_array_equal(y.grad.numpy(), [10, 20])
    z = leaf(1.0)
    z.backward(incoming[:1])
    z.backward(incoming[:1])
    np.testing.assert_array_equal(incoming.numpy(), [10, 20])
    assert z.grad.item() == 20


def test_grad_does_not_share_memory_with_what_is_saved():
    x = leaf(1.0, 2.0)
    w = cx.Tensor(np.array([5.0, 6.0]))

    @tape.primitive
    def dot(x, w):
        return (x * w).sum()

    tape.defvjp(dot, lambda g, w: w)
    out = dot(x, w)
    out.backward(retain_graph=True)
    x.grad.data[:] = 0
    np.testing.assert_array_equal(w.numpy(), [5, 6])


def test_a_fresh_gradient_is_not_copied():
    made = []

    @tape.primitive
    def twice(x):
        made.append(x * 2)
        return made[-1]

    tape.defvjp(twice, lambda g: twice(g))
    x = leaf(1.0, 2.0)
    twice(x).sum().backward()
    assert x.grad.data is made[-1]


def test_repeated_use_sums_in_a_fixed_order():
    def run():
        rng = np.random.default_rng(0)
        x = cx.Tensor(rng.standard_normal(1000).astype(np.float32), requires_grad=True)
        total = cx.zeros(1000)
        for _ in range(20):
            total = total + x * rng.standard_normal(1000).astype(np.float32)
        total.sum().backward()
        return x.grad.numpy().tobytes()

    assert len({run() for _ in range(3)}) == 1


# ---- length ----


def test_long_chains_neither_overflow_the_stack_going_back_nor_when_freed():
    def run():
        x = leaf(1.0)
        y = x
        for _ in range(100_000):
            y = y + 1.0
        y.backward()
        assert x.grad.item() == 1.0
        del y
        gc.collect()

    old = threading.stack_size(512 * 1024)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(old)


def test_a_graph_is_freed_without_the_cycle_collector():
    gc.disable()
    try:
        x = leaf(1.0, 2.0)
        y = (x.exp() * x).sqrt().sum()
        node = weakref.ref(y.grad_fn)
        y.backward()
        del y
        assert node() is None
    finally:
        gc.enable()


# ---- graphs of gradients ----


def test_create_graph_differentiates_gradients():
    x = leaf(2.0)
    (dx,) = cx.grad(x**3, x, create_graph=True)
    (ddx,) = cx.grad(dx, x, create_graph=True)
    (dddx,) = cx.grad(ddx, x)
    assert (dx.item(), ddx.item(), dddx.item()) == (12.0, 12.0, 6.0)
    assert not dddx.requires_grad


def test_backward_with_create_graph_leaves_gradients_with_history():
    x = leaf(2.0)
    (x * x).backward(create_graph=True)
    assert x.grad.requires_grad
    (d,) = cx.grad(x.grad, x)
    assert d.item() == 2.0
    (x * x).backward(create_graph=True)
    assert x.grad.item() == 8.0


def test_gradient_penalty_against_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((4, 3)), rng.standard_normal((3, 5))

    def penalty(lib, x, w):
        y = (x @ w).exp().sum()
        grad = torch.autograd.grad if lib is torch else cx.grad
        (gx,) = grad(y, x, create_graph=True)
        return (gx * gx).sum()

    x, w = cx.Tensor(a, requires_grad=True), cx.Tensor(b, requires_grad=True)
    penalty(cx, x, w).backward()
    tx, tw = (torch.tensor(v, requires_grad=True) for v in (a, b))
    penalty(torch, tx, tw).backward()
    np.testing.assert_allclose(x.grad.numpy(), tx.grad.numpy(), rtol=1e-10)
    np.testing.assert_allclose(w.grad.numpy(), tw.grad.numpy(), rtol=1e-10)


def test_vjp_through_a_composition():
    @tape.primitive
    def softplus(x, *, beta):
        return np.log1p(np.exp(beta * x)) / beta

    def composed(x):
        return ((x * 1.5).exp() + 1.0).log() / 1.5

    tape.defvjp(softplus, joint=lambda gs, x, wanted: autograd.vjp_through(composed, (x,), gs, wanted))
    check_gradients(lambda x: softplus(x, beta=1.5), np.array([0.3, -1.2, 2.0]))
    check_second_order(lambda x: softplus(x, beta=1.5), np.array([0.3, -1.2, 2.0]))


def test_vjp_through_is_partial_where_arguments_depend_on_each_other():
    @tape.primitive
    def product(x, y):
        return x * y

    tape.defvjp(
        product,
        joint=lambda gs, x, y, wanted: autograd.vjp_through(lambda a, b: a * b, (x, y), gs, wanted),
    )
    for create_graph in (False, True):
        x = leaf(3.0)
        y = x * x
        (g,) = cx.grad(product(x, y), x, create_graph=create_graph)
        assert g.item() == 27.0
    assert cx.grad(g, x)[0].item() == 18.0
    same = leaf(3.0)
    assert cx.grad(product(same, same), same)[0].item() == 6.0


# ---- grad() ----


def test_grad_leaves_dot_grad_alone_and_takes_inner_tensors():
    x = leaf(2.0)
    y = x * 3
    z = y * y + x
    gy, gx = cx.grad(z, [y, x])
    assert (gy.item(), gx.item()) == (12.0, 37.0)
    assert x.grad is None


def test_grad_of_several_outputs_with_given_gradients():
    x = leaf(1.0, 2.0)
    (g,) = cx.grad([x * 2, x * x], [x], [cx.Tensor(np.array([1.0, 0.0])), cx.Tensor(np.array([0.0, 1.0]))])
    np.testing.assert_array_equal(g.numpy(), [2, 4])
    (g,) = cx.grad(x * 2, x, np.array([1.0, 5.0]))
    np.testing.assert_array_equal(g.numpy(), [2, 10])


def test_grad_of_an_output_for_itself():
    x = leaf(2.0)
    y = x * x
    assert [g.item() for g in cx.grad(y, [y, x])] == [1.0, 4.0]


def test_grad_visits_only_what_leads_to_the_inputs():
    @tape.primitive
    def trap(x):
        return x * 1.0

    def rule(g):
        raise AssertionError("not on the way")

    tape.defvjp(trap, rule)
    x, other = leaf(2.0), leaf(3.0)
    assert cx.grad(x * trap(other), x)[0].item() == 3.0


def test_grad_of_unused_inputs():
    x, y = leaf(1.0), leaf(2.0)
    with pytest.raises(RuntimeError, match=r"inputs \[1\] were not used.*allow_unused=True"):
        cx.grad(x * 2, [x, y])
    gx, gy = cx.grad(x * 2, [x, y], allow_unused=True)
    assert gx.item() == 2.0
    assert gy is None


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: cx.grad(x * 2, cx.Tensor(np.ones(2))), RuntimeError, r"inputs\[0\] does not require grad"),
        (lambda x: cx.grad([x, x], [x], [None]), ValueError, "grad_outputs has 1 entries for 2 outputs"),
        (lambda x: cx.Tensor(np.ones(1)).backward(), RuntimeError, "does not require grad"),
        (lambda x: (x * 2).backward(), RuntimeError, r"only for scalar outputs; this one has shape \[2\]"),
        (lambda x: (x * 2).backward(cx.ones(3)), ValueError, r"gradient has shape \[3\], its output \[2\]"),
        (lambda x: cx.Tensor(np.arange(3), requires_grad=True), TypeError, "floating dtype.*int64"),
        (lambda x: (x * 2).requires_grad_(False), RuntimeError, "leaves only"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(leaf(1.0, 2.0))


# ---- freeing ----


def test_second_backward_is_an_error_unless_the_graph_is_retained():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [4, 8])
    with pytest.raises(
        RuntimeError, match=r"backward through the graph a second time.*multiply.*retain_graph=True"
    ):
        y.backward()


def test_nodes_that_saved_nothing_can_be_passed_again():
    x = leaf(1.0)
    trunk = x + 1.0
    (trunk * 2.0).backward()
    (trunk * 3.0).backward()
    assert x.grad.item() == 5.0


def test_a_failed_backward_leaves_gradients_as_they_were():
    @tape.primitive
    def bad(x):
        return x * 1.0

    def rule(g):
        raise ZeroDivisionError

    tape.defvjp(bad, rule)
    x, y = leaf(1.0), leaf(2.0)
    with pytest.raises(ZeroDivisionError):
        (bad(x) + y).backward()
    assert x.grad is None
    assert y.grad is None
    assert cx.is_grad_enabled()


# ---- changes in place ----


def test_changing_a_saved_tensor_in_place_is_found():
    x = leaf(1.0, 2.0)
    y = x * 1.0
    z = y * y
    y += 1.0
    with pytest.raises(RuntimeError, match=r"modified by an inplace operation: 'x' of multiply, shape \[2\]"):
        z.sum().backward()


def test_changing_a_saved_output_in_place_is_found():
    x = leaf(1.0, 2.0)
    y = x.exp()
    y[0] = 0.0
    with pytest.raises(RuntimeError, match="modified by an inplace operation: 'out' of exp"):
        y.sum().backward()


def test_changing_a_view_changes_the_version_of_its_base():
    x = leaf(1.0, 2.0)
    w = cx.Tensor(np.array([3.0, 4.0]))
    y = x * w
    w.reshape(2, 1)[0] = 7.0
    with pytest.raises(RuntimeError, match="inplace"):
        y.sum().backward()
    v = cx.Tensor(np.array([3.0, 4.0]))
    y = x * v
    v.detach().zero_()
    with pytest.raises(RuntimeError, match="inplace"):
        y.sum().backward()


def test_changing_a_copy_is_nobodys_business():
    x = leaf(1.0, 2.0)
    w = cx.Tensor(np.array([3.0, 4.0]))
    y = x * w
    w.clone().zero_()
    w[np.array([0, 1])].zero_()
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3, 4])


def test_in_place_arithmetic_is_recorded():
    x = leaf(1.0, 2.0)
    y = x * 3.0
    y += x
    y *= 2.0
    y -= 1.0
    y /= 4.0
    np.testing.assert_array_equal(y.detach().numpy(), (np.array([1.0, 2.0]) * 8 - 1) / 4)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 2])


def test_in_place_change_of_a_plain_tensor_gives_it_history():
    x = leaf(1.0, 2.0)
    total = cx.zeros(2, dtype=np.float64)
    total += x * x
    assert total.requires_grad
    total.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 4])


def test_assignment_by_index_is_recorded():
    x, v = leaf(1.0, 2.0, 3.0), leaf(10.0)
    y = x * 2.0
    y[1:2] = v * 3.0
    np.testing.assert_array_equal(y.detach().numpy(), [2, 30, 6])
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 0, 2])
    assert v.grad.item() == 3.0


def test_leaves_are_changed_under_no_grad_only():
    x = leaf(1.0, 2.0)
    for change in (lambda: x.add_(1.0), lambda: x.__setitem__(0, 1.0), lambda: x.zero_()):
        with pytest.raises(RuntimeError, match="a leaf that requires grad is changed in place"):
            change()
    with cx.no_grad():
        x += 1.0
        x[0] = 5.0
    np.testing.assert_array_equal(x.detach().numpy(), [5, 3])
    assert x.is_leaf
    assert x.requires_grad


def test_views_and_recorded_changes_do_not_mix_silently():
    x = leaf(1.0, 2.0)
    y = x * 2.0
    view = y[:1]
    with pytest.raises(NotImplementedError, match="changing a view in place"):
        view += 1.0
    y *= 3.0
    with pytest.raises(RuntimeError, match="view was made before its base was changed"):
        view * 2.0
    with pytest.raises(RuntimeError, match="view was made before its base was changed"):
        view.backward()
    y[:1].backward()
    np.testing.assert_array_equal(x.grad.numpy(), [6, 0])


def test_a_view_stays_good_when_its_base_changes_without_being_recorded():
    p = leaf(1.0, 2.0)
    flat = p.reshape(2, 1)
    with cx.no_grad():
        p *= 3.0
    (flat * flat).sum().backward()
    np.testing.assert_array_equal(p.grad.numpy(), [6, 12])


# ---- the switch ----


def test_no_grad_as_context_and_decorator():
    x = leaf(1.0)

    @cx.no_grad()
    def quiet(n):
        assert not cx.is_grad_enabled()
        return quiet(n - 1) if n else x * 2.0

    @cx.no_grad
    def bare():
        return x * 2.0

    @cx.enable_grad()
    def loud():
        return x * 2.0

    assert not quiet(3).requires_grad
    assert not bare().requires_grad
    assert bare.__name__ == "bare"
    with cx.no_grad():
        assert not (x * 2.0).requires_grad
        assert loud().requires_grad
        with cx.enable_grad():
            assert (x * 2.0).requires_grad
        assert not cx.is_grad_enabled()
    assert (x * 2.0).requires_grad


def test_no_grad_ends_with_an_exception_and_can_be_entered_again():
    guard = cx.no_grad()
    with pytest.raises(KeyError), guard:
        raise KeyError
    assert cx.is_grad_enabled()
    with guard, guard:
        assert not cx.is_grad_enabled()
    assert cx.is_grad_enabled()


def test_no_grad_is_per_thread():
    seen = []
    with cx.no_grad():
        thread = threading.Thread(target=lambda: seen.append(cx.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]
