"""Recipes put together: what each brings is there, what clashes is refused, and an ablation takes each part away."""

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from detbalance import Recipe, Stage, cli, recipes
from detbalance.combination import ablation, combine
from detbalance.data.synthetic import make_dataset
from detbalance.losses import GIoULoss
from detbalance.weights import ConstantWeights


def test_brings_what_each_part_has():
    whole = recipes.get("focal+balanced_fpn+repeat_factor", "dense")
    parts = [recipes.get(name, "dense") for name in ("focal", "balanced_fpn", "repeat_factor")]
    assert whole.name == "focal+balanced_fpn+repeat_factor"
    assert whole.stages == parts[0].stages
    assert whole.neck.func is parts[1].neck.func
    assert whole.images == parts[2].images


def test_weights_multiply():
    one, two, three = (ConstantWeights(foreground=f, background=1.0) for f in (2.0, 3.0, 4.0))
    made = combine(
        "all",
        Recipe(name="a", stages=Stage(weigh=one)),
        Recipe(name="b", stages=Stage(weigh=(two, three))),
    )
    assert made.stages.weigh == (one, two, three)


def test_every_stage_of_a_cascade_is_treated():
    loss = GIoULoss()
    rows = (Stage(cls_weight=1.0), Stage(cls_weight=0.5))
    cascade, boxes = Recipe(name="cascade", stages=rows), Recipe(name="boxes", stages=Stage(box_loss=loss))
    for order in ((cascade, boxes), (boxes, cascade)):
        made = combine("both", *order)
        assert [stage.box_loss for stage in made.stages] == [loss, loss]
        assert [stage.cls_weight for stage in made.stages] == [1.0, 0.5]
    with pytest.raises(ValueError, match="'cascade' and 'cascade' both make a cascade"):
        combine("twice", cascade, cascade)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("focal+ghm", "'focal' and 'ghm' both set stages.cls_loss"),
        ("balanced_fpn+libra", "'balanced_fpn' and 'libra' both set neck"),
        ("focal-ghm", "'ghm' is no part of 'focal'"),
        ("focal-focal", "nothing is left"),
        ("focal+nothing_such", "no recipe 'nothing_such'"),
    ],
)
def test_refuses(expression, message):
    with pytest.raises(ValueError, match=message):
        recipes.get(expression, "dense")


def test_the_same_value_twice_is_no_clash():
    parts = [Recipe(name=name, stages=Stage(prior=0.01)) for name in "ab"]
    assert combine("both", *parts).stages.prior == 0.01


@pytest.mark.parametrize("expression", ["focal+decoupled", "decoupled+focal"])
def test_phases_go_with_methods(expression):
    whole = recipes.get(expression, "dense")
    assert whole.phases == recipes.get("decoupled", "dense").phases
    assert whole.stages == recipes.get("focal", "dense").stages


def test_takes_a_part_away():
    less = recipes.get("focal+balanced_l1-focal", "dense")
    assert less.stages == recipes.get("balanced_l1", "dense").stages


def test_ablation_is_made_of_recipes_that_exist():
    whole = "focal+balanced_l1+balanced_fpn"
    names = ablation(whole, recipes.parts(whole, "dense"))
    assert len(names) == 2 + 3 + 3
    made = {name: recipes.get(name, "dense") for name in names}
    assert made[f"{whole}-focal"].stages.cls_loss is None
    assert made[f"{whole}-focal"].stages.box_loss is not None
    assert made["baseline"] == Recipe(name="baseline")


def test_a_recipe_of_one_part_is_refused():
    with pytest.raises(ValueError, match="recipe 'focal' has no parts to take away"):
        ablation("focal", recipes.parts("focal", "dense"))


def test_command(monkeypatch, tmp_path):
    """`compare --ablate` compares what an ablation needs, of the detector's own kind."""
    make_dataset(tmp_path, images=12)
    compared = []
    monkeypatch.setattr(cli, "_compare", lambda data, recipes, *rest, **options: compared.extend(recipes))
    answer = CliRunner().invoke(cli.app, ["compare", str(tmp_path), "--ablate", "focal+balanced_l1"])
    assert answer.exit_code == 0, answer.output
    assert compared == ["baseline", "focal+balanced_l1", "focal", "balanced_l1"]


@pytest.mark.parametrize(("name", "kind"), [(n, k) for n in recipes.COMBINED for k in recipes.kinds(n)])
def test_combined_recipes_come_apart(name, kind):
    """What a recipe is put together from, and what its name in an ablation stands for, are one thing."""
    whole, parts = recipes.get(name, kind), recipes.parts(name, kind)
    assert whole == getattr(recipes, name)(kind)
    assert whole == replace(recipes.get("+".join(parts), kind), name=name)
    if len(parts) > 1:
        last = recipes.get(f"{name}-{parts[-1]}", kind)
        assert last == replace(recipes.get("+".join(parts[:-1]), kind), name=last.name)


def test_ablation_of_three_parts():
    parts = recipes.parts("long_tail", "dense")
    assert ablation("long_tail", parts) == ["baseline", "long_tail", *(f"long_tail-{p}" for p in parts), *parts]
