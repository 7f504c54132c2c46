"""The studies: which experiments on which data set, and which tables they fill."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.study.rows import Evaluation, Line, Row, Study, Table
from smae.eval.records import RANDOM, RAW, SUPERVISED

MEAN = Evaluation(("linear", "knn"))
TOKENS = Evaluation(("linear", "knn"), ("linear.pool=tokens", "linear.lr=0.01", "knn.pool=tokens"), "tokens")
VIEWS = (
    Evaluation(("linear",), ("linear.test_views=8",), "views"),
    Evaluation(("linear",), (*TOKENS.sets[:2], "linear.test_views=8"), "tokens, views"),
)
"""The same linear probes, which average the probabilities of 8 augmented views of each test clip."""

FINETUNE = Evaluation(("finetune",))
SEMI = Evaluation(("semi-10",), ("finetune.epochs=60", "finetune.batch=16"))
SCRATCH = Evaluation(("scratch",))
FROZEN_MODES = ("linear", "knn", "linear, tokens", "knn, tokens")
ALL_MODES = (*FROZEN_MODES, "finetune", "semi-10")

SHORT = ("train.max_steps=600", "finetune.epochs=12", "scratch.epochs=12", "linear.views=2")
LONGER = ("train.max_steps=2500", "finetune.epochs=40")
FORTY = Evaluation(("finetune",), ("finetune.epochs=40",), "40 epochs")
SCRATCH_LONGER = Evaluation(("scratch",), ("scratch.epochs=40",))
LARGE = (
    "train.max_steps=4000", "train.epochs=260", "encoder.dim=128", "augment.stream=relative", "augment.align=heading",
    "augment.scale=0.2", "augment.mirror=true", "linear.views=20",
)  # fmt: skip


def at_length(part: str) -> tuple[str, ...]:
    """Return how the large net is trained with labels: turned any way, on half of its tokens, evaluated by 8 views."""
    options = ("epochs=120", "lr=0.0007", "layer_decay=1", "keep=0.5", "test_views=8")
    return ("augment.turn=3.1415", *(f"{part}.{one}" for one in options))


GRAPH = (
    "train.max_steps=600", "encoder.name=graph", "encoder.dim=128", "encoder.depth=2", "encoder.share=8",
    "augment.stream=relative", "augment.align=none", "augment.turn=3.1415", "augment.rotate=0.5", "augment.scale=0.3",
    "augment.mirror=true", "augment.crop=[0.8,1.0]", 'selection.also=["best_test"]',
    *(f"{part}.{one}" for part in ("finetune", "scratch") for one in ("epochs=65", "lr=0.002", "layer_decay=1")),
)  # fmt: skip
"""As the published supervised figure was made: graph convolution, 65 epochs, clips turned and tilted at random."""

FULL_RATE = (
    Evaluation(("finetune",), ("finetune.layer_decay=1", "finetune.keep=0.5", "finetune.test_views=8"), "full rate"),
    Evaluation(("scratch",), (*SCRATCH_LONGER.sets, "scratch.keep=0.5", "scratch.test_views=8"), "full rate"),
)
"""Both with all layers at the full rate, on half of the tokens, evaluated by 8 views."""

RANDOM_90 = ("masking.name=random", "masking.keep=0.1")
MAE = ("objective.name=mae", *RANDOM_90, "objective.normalise=token", "objective.floor=0.001", "objective.predict=0.3")
MAMP = (
    "objective.name=mamp", "masking.name=motion-aware", "masking.keep=0.1", "objective.normalise=token",
    "objective.floor=0.001", "objective.predict=0.3",
)  # fmt: skip
SELF_DECODER = ("decoder.name=self", "decoder.dim=64", "decoder.depth=1", "decoder.heads=4")
"""Another plug-in starts from its own defaults, so the size is said again."""


def beside(evaluation: Evaluation, seeds: int) -> Evaluation:
    """Return an evaluation that evaluates the random encoder and raw coordinates too, for so many seeds."""
    return replace(evaluation, baselines=seeds)


def frozen(name: str, *sets: str) -> Row:
    """Return a row that is evaluated frozen only, which is cheap."""
    return Row(name, sets, (MEAN, TOKENS))


METHODS = (
    Row("skeletonmae", (), (beside(MEAN, 3), beside(TOKENS, 3), beside(FINETUNE, 1), beside(SEMI, 1), SCRATCH)),
    Row("mae", MAE, (MEAN, TOKENS, FINETUNE, SEMI)),
    Row("mamp", MAMP, (MEAN, TOKENS, FINETUNE, SEMI)),
)
SCRATCH_TOO = tuple(
    (f"finetune{more}", (f"scratch{more}", SUPERVISED))
    for more in ("", ", one view", ", full rate", ", full rate, one view", ", best_test")
)
"""Where tables show fine-tuning, supervised training shows what it reaches from scratch."""

BASELINES = (
    Line("random encoder", "skeletonmae", RANDOM),
    Line("supervised from scratch", "skeletonmae", SUPERVISED, SCRATCH_TOO),
    Line("raw coordinates", "skeletonmae", RAW, (("semi-10", ("semi-10", f"{RAW}, linear")),)),
)

NW_UCLA = Study(
    "nw-ucla",
    "nw-ucla-small",
    SHORT,
    rows=(
        *METHODS,
        frozen("joints-only", "masking.keep_frames=1", "masking.keep_joints=0.2"),
        frozen("frames-only", "masking.keep_frames=0.17", "masking.keep_joints=1"),
        frozen("random-80", "masking.name=random", "masking.keep=0.2"),
        frozen("random-90", *RANDOM_90),
        frozen("keep-2x6", "masking.keep_frames=0.34", "masking.keep_joints=0.3"),
        frozen("keep-3x12", "masking.keep_frames=0.5", "masking.keep_joints=0.6"),
        frozen("keep-4x12", "masking.keep_frames=0.67", "masking.keep_joints=0.6"),
        frozen("target-token", "objective.normalise=token", "objective.floor=0.001"),
        frozen("target-none", "objective.normalise=none"),
        frozen("decoder-self", *SELF_DECODER, "objective.predict=1"),
        frozen("not-aligned", "augment.align=none", "augment.turn=3.1415"),
        Row("longer", LONGER, (MEAN, TOKENS, FINETUNE, SCRATCH_LONGER)),
        Row(
            "large",
            LARGE,
            (
                beside(MEAN, 1),
                beside(TOKENS, 1),
                *VIEWS,
                *(Evaluation((part,), at_length(part)) for part in ("finetune", "scratch")),
            ),
        ),
        Row("graph", GRAPH, (SCRATCH, FINETUNE, MEAN)),
    ),
    tables=(
        Table(
            "Methods",
            "One size, one budget, one loader; what differs is what is hidden and what is predicted. SkeletonMAE keeps "
            "3 of 6 time patches and 8 of 20 joints (20 % of tokens) and predicts coordinates normalised by clip; MAE "
            "keeps a random 10 % and MAMP the 10 % that its motion-aware masking leaves, targets normalised by token. "
            "The random encoder is fine-tuned by the fine-tune recipe, its lower layers at reduced rates; from scratch "
            "all layers learn at the full rate.",
            ALL_MODES,
            (
                Line("SkeletonMAE", "skeletonmae"),
                Line("MAE", "mae"),
                Line("MAMP", "mamp"),
                *BASELINES,
            ),
        ),
        Table(
            "What is hidden",
            "The paper's claim is that hiding joints and frames at once beats either alone. All keep 20 % of tokens, "
            "but frame-level masking, which keeps 1 of 6 patches (17 %), and the random 90 %.",
            FROZEN_MODES,
            (
                Line("joints and frames (3 of 6 patches x 8 of 20 joints)", "skeletonmae"),
                Line("joints only (4 of 20)", "joints-only"),
                Line("frames only (1 of 6)", "frames-only"),
                Line("random 80 %", "random-80"),
                Line("random 90 %", "random-90"),
            ),
        ),
        Table(
            "How much is hidden",
            "Joints and frames at once, other shares.",
            FROZEN_MODES,
            (
                Line("2 patches x 6 joints kept (10 %)", "keep-2x6"),
                Line("3 x 8 (20 %)", "skeletonmae"),
                Line("3 x 12 (30 %)", "keep-3x12"),
                Line("4 x 12 (40 %)", "keep-4x12"),
            ),
        ),
        Table(
            "Target, decoder, view",
            "SkeletonMAE with one thing changed.",
            FROZEN_MODES,
            (
                Line("normalised by clip, cross decoder, each clip turned one way", "skeletonmae"),
                Line("target normalised by token", "target-token"),
                Line("target as it is, in metres", "target-none"),
                Line("self decoder, all hidden tokens predicted", "decoder-self"),
                Line("clips as the camera saw them, turned at random in training", "not-aligned"),
            ),
        ),
        Table(
            "Longer",
            "Four times as many steps of pre-training, three times as many epochs of fine-tuning and from scratch.",
            (*FROZEN_MODES, "finetune"),
            (
                Line("SkeletonMAE, 600 steps, 12 epochs", "skeletonmae"),
                Line("from scratch, 12 epochs", "skeletonmae", SUPERVISED, SCRATCH_TOO),
                Line("SkeletonMAE, 2,500 steps, 40 epochs", "longer"),
                Line("from scratch, 40 epochs", "longer", SUPERVISED, SCRATCH_TOO),
            ),
        ),
        Table(
            "Large",
            "Twice as wide, 4,000 steps, joints seen from the body's centre, hips and shoulders of the first frame "
            "along x, mirrored and scaled at random; then 120 epochs with labels, turned any way about the vertical, "
            "all layers at full rate, on half of the tokens, the probabilities of 8 augmented views of each test clip "
            "averaged. `one view` is the same net by one plain view, as published figures are.",
            (*FROZEN_MODES, "linear, views", "linear, tokens, views", "finetune, one view", "finetune"),
            (
                Line("SkeletonMAE", "large"),
                Line("random encoder", "large", RANDOM),
                Line("from scratch", "large", SUPERVISED, SCRATCH_TOO),
                Line("raw coordinates", "large", RAW),
            ),
        ),
        Table(
            "Graph",
            "Graph convolution (`graph`, 128 wide in its last stage, 2 + 2 + 2 blocks, 24 frames) in place of the "
            "transformer: clips as the camera saw them, joints seen from the body's centre, turned any way about the "
            "vertical and by up to 29° about each axis, mirrored and scaled at random; pre-trained for 600 steps; 65 "
            "epochs with labels, one plain view of each test clip. `best_test` is the best of the 65 epochs on test: "
            "not a fair figure, but what public training scripts print.",
            ("linear", "knn", "finetune", "finetune, best_test"),
            (Line("SkeletonMAE", "graph"), Line("from scratch", "graph", SUPERVISED, SCRATCH_TOO)),
        ),
    ),
)

UI_PRMD = Study(
    "ui-prmd",
    "skeletonmae-ui-prmd",
    SHORT,
    rows=(
        Row("skeletonmae", (), (beside(MEAN, 3), beside(TOKENS, 3), FINETUNE, SCRATCH, beside(SEMI, 1))),
        Row("mae", MAE, (MEAN, TOKENS, FINETUNE, SEMI)),
        Row("mamp", MAMP, (MEAN, TOKENS, FINETUNE, SEMI)),
        Row(
            "joints-only",
            ("masking.keep_frames=1", "masking.keep_joints=0.2"),
            (MEAN, TOKENS, FINETUNE, beside(SEMI, 3), FORTY),
        ),
        frozen("frames-only", "masking.keep_frames=0.17", "masking.keep_joints=1"),
        frozen("random-90", *RANDOM_90),
        frozen("keep-2x8", "masking.keep_frames=0.34", "masking.keep_joints=0.3"),
        frozen("keep-4x15", "masking.keep_frames=0.67", "masking.keep_joints=0.6"),
        frozen("target-token", "objective.normalise=token", "objective.floor=0.001"),
        frozen("target-none", "objective.normalise=none"),
        frozen("decoder-self", *SELF_DECODER, "objective.predict=1"),
        Row("longer", LONGER, (FINETUNE, SCRATCH_LONGER, *FULL_RATE)),
    ),
    tables=(
        Table(
            "Methods",
            "As on NW-UCLA. The same net, fine-tuned after pre-training and trained from random weights; the same "
            "recipe, from scratch with all layers at full rate.",
            ALL_MODES,
            (Line("SkeletonMAE", "skeletonmae"), Line("MAE", "mae"), Line("MAMP", "mamp"), *BASELINES),
        ),
        Table(
            "Longer",
            "Four times as many steps of pre-training, three times as many epochs of fine-tuning and from scratch. At "
            "`full rate` fine-tuning leaves the lower layers' reduced rates out, so that both have one recipe: half of "
            "the tokens in training, the probabilities of 8 augmented views of each test clip averaged, and `one view` "
            "as it is by one plain view.",
            ("finetune", "finetune, full rate, one view", "finetune, full rate"),
            (
                Line("SkeletonMAE, 2,500 steps, 40 epochs", "longer"),
                Line("from scratch, 40 epochs", "longer", SUPERVISED, SCRATCH_TOO),
            ),
        ),
        Table(
            "What is hidden",
            "The paper's claim, on this data. Both levels keep 3 of 6 time patches and 10 of 25 joints (20 % of "
            "tokens), joints alone 20 %, frames alone 17 %.",
            FROZEN_MODES,
            (
                Line("joints and frames", "skeletonmae"),
                Line("joints only (5 of 25)", "joints-only"),
                Line("frames only (1 of 6)", "frames-only"),
                Line("random 90 %", "random-90"),
            ),
        ),
        Table(
            "Joints alone hidden, with labels",
            "The masking with the best frozen features, fine-tuned: for 12 epochs, for 40, and on a tenth of the "
            "labels, beside a random encoder fine-tuned by the same recipe and training from scratch.",
            ("finetune", "finetune, 40 epochs", "semi-10"),
            (
                Line("joints only (5 of 25)", "joints-only"),
                Line("joints and frames", "skeletonmae"),
                Line("random encoder", "joints-only", RANDOM),
                Line("raw coordinates", "joints-only", RAW, (("semi-10", ("semi-10", f"{RAW}, linear")),)),
                Line("from scratch, 12 epochs", "skeletonmae", SUPERVISED, SCRATCH_TOO),
                Line(
                    "from scratch, 40 epochs",
                    "longer",
                    SUPERVISED,
                    (("finetune, 40 epochs", ("scratch", SUPERVISED)),),
                ),
            ),
        ),
        Table(
            "How much is hidden",
            "Joints and frames at once, other shares.",
            FROZEN_MODES,
            (
                Line("2 patches x 8 joints kept (10 %)", "keep-2x8"),
                Line("3 x 10 (20 %)", "skeletonmae"),
                Line("4 x 15 (40 %)", "keep-4x15"),
            ),
        ),
        Table(
            "Target, decoder",
            "SkeletonMAE with one thing changed.",
            FROZEN_MODES,
            (
                Line("normalised by clip, cross decoder", "skeletonmae"),
                Line("target normalised by token", "target-token"),
                Line("target as it is, in metres", "target-none"),
                Line("self decoder, all hidden tokens predicted", "decoder-self"),
            ),
        ),
    ),
)

STUDIES = {study.name: study for study in (NW_UCLA, UI_PRMD)}
