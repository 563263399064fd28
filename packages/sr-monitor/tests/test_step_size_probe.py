"""What the step-size callback measures: the trained places of a call, with few numbers per place."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers

from sr_monitor.integrations import movement
from sr_monitor.integrations.movement import Probe, rows_of

IDS = torch.arange(2, 14).view(2, 6)


def places(**call: Any) -> list[list[int]]:
    return [row.places.tolist() for row in rows_of({"input_ids": IDS, **call}, 2)]


def model_of(vocabulary: int = 40) -> Any:
    torch.manual_seed(0)
    size = {"vocab_size": vocabulary, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**size, num_attention_heads=2, head_dim=8))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return model


def test_places_are_those_that_predict_a_trained_token() -> None:
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]])
    labels = torch.tensor([[-100, -100, -100, -100, 5, 6], [-100, -100, -100, 4, 5, -100]])
    assert places() == [[0, 1, 2, 3, 4]] * 2
    assert places(attention_mask=mask) == [[1, 2, 3, 4], [0, 1, 2, 3]]
    assert places(attention_mask=mask, labels=labels) == [[3, 4], [2, 3]]
    assert places(shift_labels=labels) == [[4, 5], [3, 4]]
    assert places(attention_mask=mask, logits_to_keep=3) == [[3, 4], [3]]  # the last logits predict nothing here
    assert places(attention_mask=mask, logits_to_keep=0) == places(attention_mask=mask)
    assert places(attention_mask=mask, logits_to_keep=torch.tensor([2, 3])) == [[2, 3], [2, 3]]


def test_no_more_places_of_a_row_are_measured_than_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movement, "PLACES", 3)
    assert places() == [[0, 2, 4]] * 2


@pytest.mark.parametrize("keeps", [True, False])
def test_movement_and_entropy_are_those_of_the_trained_places(keeps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of().train()
    labels = IDS.clone()
    labels[:, :4] = -100
    rows = rows_of({"input_ids": IDS, "labels": labels}, 2)
    probe = Probe(model, rows, temperature=0.7)
    probe._keeps = keeps
    with torch.no_grad():
        old = (model(input_ids=IDS).logits / 0.7).log_softmax(-1)
    assert probe.moved() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.05)
        new = (model(input_ids=IDS).logits / 0.7).log_softmax(-1)
    divergence, entropy = (old.exp() * (old - new)).sum(-1), -(old.exp() * old).sum(-1)
    assert probe.moved() == pytest.approx(float(divergence[:, 3:5].mean()), rel=1e-4)
    assert probe.entropy == pytest.approx(float(entropy[:, 3:5].mean()), rel=1e-4)
    assert model.training


def test_few_numbers_are_held_and_the_rest_of_the_vocabulary_counts_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for kept in (4, 256):
        monkeypatch.setattr(movement, "KEPT", kept)
        model = model_of()
        probe = Probe(model, rows_of({"input_ids": IDS}, 2), temperature=1.0)
        assert probe._before[0].logprobs_CK.shape == (5, 5 if kept == 4 else 40)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.05)
        found[kept] = probe.moved()
    assert 0.3 * found[256] < found[4] <= found[256]


def test_tokens_that_are_impossible_leave_a_number() -> None:
    model = model_of()
    model.lm_head.register_forward_hook(
        lambda _module, _inputs, logits: logits.index_fill(-1, torch.tensor([3]), -torch.inf)
    )
    probe = Probe(model, rows_of({"input_ids": IDS}, 2), temperature=1.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.05)
    assert 0 < probe.moved() < 100
    assert 0 < probe.entropy < 4


def test_only_logits_of_the_measured_places_are_computed_by_wrapped_models_too() -> None:
    model = model_of()
    rows = rows_of({"input_ids": IDS, "logits_to_keep": 3}, 2)
    for wrapped in (model, torch.nn.DataParallel(model), torch.compile(model, backend="eager")):
        assert movement._innermost(wrapped) is model
    shapes: list[Any] = []
    model.lm_head.register_forward_hook(lambda _module, _inputs, logits: shapes.append(tuple(logits.shape)))
    Probe(model, rows, temperature=1.0)
    assert shapes == [(1, 2, 40)] * 2


def test_weights_that_a_forward_pass_gathers_are_released_after_every_measurement() -> None:
    model, released = model_of(), list[str]()
    model.model.reshard = lambda: released.append("model")
    model.lm_head.reshard = lambda: released.append("lm_head")
    probe = Probe(model, rows_of({"input_ids": IDS}, 2), temperature=1.0)
    assert sorted(released) == ["lm_head", "model"]
    probe.moved()
    assert sorted(released) == ["lm_head", "lm_head", "model", "model"]
