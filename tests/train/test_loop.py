"""The loop: it learns, resumes bit for bit from any step, accumulates, and stops before a non-finite step."""

from __future__ import annotations

import copy
import math
import signal
from contextlib import nullcontext

import pytest
import torch

from smae import interrupts, progress
from smae.config import merge
from smae.data.loader import Batch
from smae.errors import DataError, Interrupted, NonFiniteError
from smae.skeleton import NTU25
from smae.testing.models import small_batch
from smae.train.checkpoint import load_checkpoint, load_latest, pack_optimizer
from smae.train.distributed import has_native_bf16
from smae.train.loop import Loop, micro_batches
from smae.train.metrics_log import MetricsLog
from smae.train.objectives import StepOutput
from smae.train.run_folder import Run
from tests.fakes import FakeStore
from tests.train.small import AtStep, log_of, run_through, small_config, small_loop

STORE = FakeStore.random(clips=21, seed=0, frames=(16, 30))
"""14 clips to train on: four steps an epoch with batch 4, the last one of two clips."""

DROPPING = {"encoder": {"drop_path": 0.5, "depth": 2}}


def state_of(loop):
    return loop.objective.state_dict(), pack_optimizer(loop.optimizer)


def assert_equal_bits(one, other):
    for mine, theirs in zip(one, other, strict=True):
        assert mine.keys() == theirs.keys()
        for name, tensor in mine.items():
            assert torch.equal(tensor, theirs[name]), name


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    loop = small_loop(STORE, Run(tmp_path_factory.mktemp("undisturbed")), small_config(**DROPPING))
    return loop, run_through(loop)


def test_the_loss_goes_down(tmp_path):
    store = FakeStore.toy(clips=24, classes=4, seed=0)
    config = small_config(train={"epochs": 15}, optim={"lr": 5e-3}, augment={"rotate": 0})
    loop = small_loop(store, Run(tmp_path), config)
    run_through(loop)
    losses = [line["loss"] for line in log_of(loop.run)]
    assert len(losses) == loop.steps == 60
    assert sum(losses[-8:]) < 0.6 * sum(losses[:8])


def test_every_clip_is_seen_once_an_epoch(undisturbed):
    loop, seen = undisturbed
    clips = sorted(STORE.split("all").train.tolist())
    assert [sorted(seen[start : start + 14]) for start in (0, 14, 28)] == [clips] * 3
    assert seen[:14] != seen[14:28]
    assert [line["clips"] for line in log_of(loop.run)] == [4, 4, 4, 2] * 3
    assert [line["step"] for line in log_of(loop.run)] == list(range(1, 13))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop_at", [1, 3, 4, 6, 11])
def test_interrupted_and_resumed_is_bit_equal_to_undisturbed(tmp_path, undisturbed, stop_at, workers):
    run, config = Run(tmp_path), small_config(**DROPPING, train={"workers": workers})
    first = small_loop(STORE, run, config)
    with pytest.raises(Interrupted, match=f"after step {stop_at} of 12; --resume continues") as caught:
        run_through(first, stop_at=stop_at)
    assert caught.value.exit_code == 130
    second = small_loop(STORE, run, config)
    second.resume(load_latest(run.checkpoints))
    assert second.position.step == stop_at
    run_through(second)
    loop, _ = undisturbed
    assert_equal_bits(state_of(second), state_of(loop))
    assert log_of(run) == log_of(loop.run)


def test_the_order_of_clips_goes_on_where_it_stopped(tmp_path, undisturbed):
    run, seen = Run(tmp_path), []
    for stop_at in (2, 3, 9, 0):
        loop = small_loop(STORE, run, small_config(**DROPPING))
        if seen:
            loop.resume(load_latest(run.checkpoints))
        loop.objective.register_forward_pre_hook(lambda module, args: seen.extend(args[0].index.tolist()))
        with pytest.raises(Interrupted) if stop_at else nullcontext():
            run_through(loop, stop_at=stop_at)
    assert seen == undisturbed[1]


def test_killed_after_later_steps_were_logged_it_goes_back_to_the_checkpoint(tmp_path, undisturbed):
    run, config = Run(tmp_path), small_config(**DROPPING, train={"save_seconds": 0})
    run_through(small_loop(STORE, run, config))
    newest = load_latest(run.checkpoints).path
    newest.joinpath("model.safetensors").write_bytes(b"")
    loop = small_loop(STORE, run, config)
    loop.resume(load_latest(run.checkpoints))
    assert loop.position.step == 8
    run_through(loop)
    assert_equal_bits(state_of(loop), state_of(undisturbed[0]))
    assert log_of(run) == log_of(undisturbed[0].run)


def test_resuming_a_finished_run_changes_nothing(tmp_path, undisturbed):
    loop, _ = undisturbed
    again = small_loop(STORE, Run(tmp_path), small_config(**DROPPING))
    again.resume(load_latest(loop.run.checkpoints))
    assert run_through(again) == []
    assert_equal_bits(state_of(again), state_of(loop))


def test_progress_names_epoch_loss_rate_and_speed(tmp_path):
    loop = small_loop(STORE, Run(tmp_path), small_config(train={"log_every": 5}))
    reports = []
    reporter = AtStep(0, lambda task: reports.append((task.done, task.total, task.unit, task.note, dict(task.values))))
    with progress.reporting(reporter), MetricsLog(loop.run.log) as log:
        loop.train(log)
    assert [report[:3] for report in reports] == [(5, 12, "steps"), (10, 12, "steps"), (12, 12, "steps")]
    losses = [line["loss"] for line in log_of(loop.run)]
    note, values = reports[0][3:]
    assert values["epoch"] == 2
    assert values["loss"] == pytest.approx(sum(losses[:5]) / 5)
    assert note.startswith(f"epoch 2/3  loss {values['loss']:.4f}  lr {values['lr']:.2e}  ")
    assert note.endswith(f"  {values['clips_per_second']:.0f} clips/s")


def test_a_signal_ends_the_run_after_its_step(tmp_path):
    loop = small_loop(STORE, Run(tmp_path), small_config())
    reporter = AtStep(0, lambda task: signal.raise_signal(signal.SIGTERM))
    with (
        interrupts.deferred(),
        progress.reporting(reporter),
        MetricsLog(loop.run.log) as log,
        pytest.raises(Interrupted) as caught,
    ):
        loop.train(log)
    assert caught.value.exit_code == 143
    assert load_checkpoint(loop.run.checkpoints / "step-00000001").state["consumed"] == 4


@pytest.mark.parametrize(("most", "epochs"), [(1, 1), (4, 1), (6, 2), (99, 3)])
def test_steps_are_limited_by_epochs_and_max_steps(tmp_path, most, epochs):
    loop = small_loop(STORE, Run(tmp_path), small_config(train={"max_steps": most}))
    run_through(loop)
    assert loop.epochs == epochs
    assert len(log_of(loop.run)) == loop.steps == loop.position.step == min(12, most)
    assert load_latest(loop.run.checkpoints).state["step"] == loop.steps


def gradients(tmp_path, accumulate):
    loop = small_loop(STORE, Run(tmp_path / str(accumulate)), small_config(train={"accumulate": accumulate}))
    kept = []

    def keep(optimizer, args, kwargs):
        kept.append([p.grad.clone() for group in optimizer.param_groups for p in group["params"]])

    loop.optimizer.register_step_pre_hook(keep)
    run_through(loop)
    return kept, [line["loss"] for line in log_of(loop.run)]


def test_accumulation_changes_the_memory_and_not_the_step(tmp_path):
    whole, losses = gradients(tmp_path, 1)
    parts, same = gradients(tmp_path, 3)
    for one, other in zip(whole[0], parts[0], strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)
    assert same == pytest.approx(losses, rel=1e-3)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_micro_batches_are_whole_clips_and_nothing_is_lost(count):
    batch = small_batch(NTU25, frames=4, clips=4)
    cut = list(micro_batches(batch, count))
    assert len(cut) == {1: 1, 2: 2, 3: 2, 4: 4, 9: 4}[count]
    assert torch.equal(torch.cat([part.x for part in cut]), batch.x)
    assert torch.equal(torch.cat([part.index for part in cut]), batch.index)
    noise = torch.cat([part.noise(3).uniform("mask", 5) for part in cut])
    assert torch.equal(noise, batch.noise(3).uniform("mask", 5))


def inject_at(loop, step, *, how):
    """Make the loss or a gradient of one step not finite."""

    def change_loss(module, args, output):
        return StepOutput(output.loss * math.nan) if loop.position.step == step - 1 else output

    def change_gradient(gradient):
        return gradient * math.inf if loop.position.step == step - 1 else gradient

    if how == "loss":
        loop.objective.register_forward_hook(change_loss)
    else:
        loop.objective.encoder.norm.weight.register_hook(change_gradient)


@pytest.mark.parametrize("pending", [0, 2])
@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_neither_a_step_that_is_not_finite_nor_any_after_it_is_taken(tmp_path, how, pending):
    loop = small_loop(STORE, Run(tmp_path), small_config(train={"save_seconds": 0}))
    loop.max_pending = pending
    inject_at(loop, 6, how=how)
    kept = []
    loop.optimizer.register_step_post_hook(lambda *_: kept.append(copy.deepcopy(state_of(loop))))
    with pytest.raises(NonFiniteError, match=r"step 6 \(epoch 1\): .* the step was not taken") as caught:
        run_through(loop)
    assert caught.value.exit_code == 7
    assert len(kept) == 6 + pending
    assert_equal_bits(state_of(loop), kept[4])
    assert [line["step"] for line in log_of(loop.run)] == [1, 2, 3, 4, 5]
    assert [path.name for path in loop.run.checkpoints.iterdir()] == ["step-00000004"]


def test_other_settings_are_refused_one_by_one(tmp_path):
    run = Run(tmp_path)
    with pytest.raises(Interrupted):
        run_through(small_loop(STORE, run, small_config()), stop_at=1)
    other = small_loop(STORE, run, small_config(masking={"keep": 0.5}, train={"batch": 2}, seed=1))
    before = {name: tensor.clone() for name, tensor in other.objective.state_dict().items()}
    with pytest.raises(DataError) as caught:
        other.resume(load_latest(run.checkpoints))
    for part in ("masking.keep: 0.3 there, 0.5 here", "train.batch: 4 there, 2 here", "seed: 0 there, 1 here", "--out"):
        assert part in str(caught.value)
    assert str(caught.value).count(" there, ") == 3
    assert_equal_bits([other.objective.state_dict()], [before])


def test_settings_that_change_no_weight_may_differ(tmp_path):
    run = Run(tmp_path)
    with pytest.raises(Interrupted):
        run_through(small_loop(STORE, run, small_config()), stop_at=1)
    free = {"train": {"workers": 1, "save_seconds": 5, "log_every": 3}, "linear": {"epochs": 3}, "knn": {"k": 5}}
    loop = small_loop(STORE, run, small_config(**free))
    loop.resume(load_latest(run.checkpoints))
    assert loop.position.step == 1


def test_another_store_is_refused(tmp_path):
    run = Run(tmp_path)
    with pytest.raises(Interrupted):
        run_through(small_loop(STORE, run, small_config()), stop_at=1)
    other = FakeStore(STORE.joints, fingerprint="cd" * 32)
    with pytest.raises(DataError, match=r"store: 'abab.* there, 'cdcd"):
        small_loop(other, run, small_config()).resume(load_latest(run.checkpoints))


@pytest.mark.parametrize("pending", [1, 3, 50])
@pytest.mark.parametrize("stop_at", [0, 2, 8])
def test_pending_metrics_change_nothing_that_is_logged_or_saved(tmp_path, undisturbed, pending, stop_at):
    run, config = Run(tmp_path), small_config(**DROPPING)
    first = small_loop(STORE, run, config)
    first.max_pending = pending
    with pytest.raises(Interrupted) if stop_at and pending < 50 else nullcontext():
        run_through(first, stop_at=stop_at)
    reached = first.position.step
    assert [line["step"] for line in log_of(run)] == list(range(1, reached + 1))
    second = small_loop(STORE, run, config)
    second.max_pending = pending
    second.resume(load_latest(run.checkpoints))
    run_through(second)
    assert log_of(run) == log_of(undisturbed[0].run)
    assert_equal_bits(state_of(second), state_of(undisturbed[0]))
    assert reached == (min(12, stop_at + pending) if stop_at else 12)


def test_a_moving_average_is_the_loop_of_its_definition_and_resumes_to_the_bit(tmp_path):
    config = small_config(**merge(DROPPING, {"train": {"ema": 0.75}}))
    whole = small_loop(STORE, Run(tmp_path / "whole"), config)
    expected: dict[str, torch.Tensor] = {}

    def follow(*_):
        for name, weight in whole.objective.named_parameters():
            before = expected.get(name, weight.detach().double())
            expected[name] = 0.75 * before + 0.25 * weight.detach().double()

    whole.optimizer.register_step_post_hook(follow)
    run_through(whole)
    averaged = load_latest(whole.run.checkpoints).average
    assert averaged.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.allclose(averaged[name].double(), weight, atol=1e-6), name
        assert not torch.equal(averaged[name], whole.objective.state_dict()[name]), name

    run = Run(tmp_path / "cut")
    with pytest.raises(Interrupted):
        run_through(small_loop(STORE, run, config), stop_at=5)
    second = small_loop(STORE, run, config)
    second.resume(load_latest(run.checkpoints))
    run_through(second)
    assert_equal_bits(state_of(second), state_of(whole))
    assert_equal_bits([second.ema.module.state_dict()], [whole.ema.module.state_dict()])


def test_a_moving_average_changes_nothing_else(tmp_path, undisturbed):
    loop = small_loop(STORE, Run(tmp_path), small_config(**merge(DROPPING, {"train": {"ema": 0.9}})))
    run_through(loop)
    assert_equal_bits(state_of(loop), state_of(undisturbed[0]))


def test_bfloat16_trains_alike(tmp_path):
    losses = {}
    for precision in ("float32", "bf16", "auto"):
        loop = small_loop(STORE, Run(tmp_path / precision), small_config(train={"precision": precision}))
        run_through(loop)
        assert all(weight.dtype == torch.float32 for weight in loop.objective.parameters())
        losses[precision] = [line["loss"] for line in log_of(loop.run)]
    assert losses["auto"] == losses["bf16" if has_native_bf16(torch.device("cpu")) else "float32"]
    assert losses["bf16"] != losses["float32"]
    assert losses["bf16"] == pytest.approx(losses["float32"], rel=0.03)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU to wait for")
def test_steps_do_not_make_the_host_wait_for_the_gpu(tmp_path):
    config = small_config()
    loop = small_loop(STORE, Run(tmp_path), config)
    batch = next(loop.loader.epoch(0))
    on_gpu = Batch(*(getattr(batch, name).cuda() for name in ("x", "clip", "body", "index", "label")), epoch=0)
    loop = Loop(
        loop.objective.cuda(), loop.loader, optim=config.optim, train=config.train, seed=0, run=loop.run, identity={}
    )
    loop.objective.train()
    loop.step(on_gpu)  # the first one may allocate, and look things up
    torch.cuda.set_sync_debug_mode("error")
    try:
        steps = [loop.step(on_gpu) for _ in range(3)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(math.isfinite(number) for step in steps for number in step.metrics.read())


def test_the_largest_seed_trains(tmp_path):
    loop = small_loop(STORE, Run(tmp_path), small_config(seed=2**63 - 1, train={"max_steps": 2}))
    run_through(loop)
    assert loop.position.step == 2
