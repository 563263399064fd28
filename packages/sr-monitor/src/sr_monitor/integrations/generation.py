"""Sampling from a transformers model and counting what passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["GenerationEvaluator"]


class GenerationEvaluator:
    """``evaluate`` for the callback: samples from the model and counts what passes.

    tokenizer: the model's. prompts: one text per held-out task. passed: called as ``passed(task, completions)``,
    returns one bool per completion. batch: sequences generated at once.
    """

    def __init__(
        self,
        *,
        tokenizer: Any,
        prompts: Sequence[str],
        passed: Callable[[int, Sequence[str]], Sequence[bool]],
        max_new_tokens: int,
        temperature: float = 0.7,
        batch: int = 64,
    ) -> None:
        self.tokenizer, self.prompts, self.passed = tokenizer, list(prompts), passed
        self.max_new_tokens, self.temperature, self.batch = max_new_tokens, temperature, batch

    def __call__(self, model: Any, samples: int, tasks: Sequence[int]) -> list[int]:
        counts = []
        at_once = max(1, self.batch // samples)
        for begin in range(0, len(tasks), at_once):
            part = tasks[begin : begin + at_once]
            texts = self._sample(model, [self.prompts[task] for task in part], samples)
            for place, task in enumerate(part):
                verdicts = self.passed(task, texts[place * samples : (place + 1) * samples])
                counts.append(sum(bool(verdict) for verdict in verdicts))
        return counts

    def _sample(self, model: Any, prompts: list[str], samples: int) -> list[str]:
        inputs = self.tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left").to(model.device)
        inputs.pop("token_type_ids", None)
        output = model.generate(
            **inputs,
            do_sample=True,
            temperature=self.temperature,
            top_k=0,
            top_p=1.0,
            num_return_sequences=samples,
            max_new_tokens=self.max_new_tokens,
            pad_token_id=self.tokenizer.pad_token_id,
            use_cache=True,
        )
        texts: list[str] = self.tokenizer.batch_decode(
            output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        return texts
