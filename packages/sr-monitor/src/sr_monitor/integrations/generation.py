"""Sampling from a transformers model and counting what passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from transformers import GenerationConfig

from sr_monitor.errors import MonitorError
from sr_monitor.integrations.checks import passed_count, refuse_encoder_decoder

__all__ = ["GenerationEvaluator", "Prompt"]

Prompt = str | Sequence[Mapping[str, Any]]
Engine = Literal["model", "vllm", "generate_batch"]
# What a model's own ``generation_config`` would change in the distribution, set to change nothing.
UNCHANGED = {
    "top_k": 0,
    "top_p": 1.0,
    "min_p": None,
    "top_h": None,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "guidance_scale": None,
    "num_beams": 1,
}


class GenerationEvaluator:
    """``evaluate`` for the callback: samples from the model and counts what passes.

    tokenizer: the model's. prompts: one per held-out task, all texts or all conversations (lists of messages), which
    the tokenizer's chat template renders with ``chat_template_kwargs``; a last message of the assistant is continued.
    passed: called as ``passed(task, completions)`` with texts, returns one bool per completion. temperature: above 0;
    nothing else changes the distribution, not the model's ``generation_config`` either, whose end tokens count beside
    the tokenizer's. batch: sequences generated at once by ``model.generate``, at most.
    engine: ``auto`` samples with what the trainer samples with, where it is TRL's vLLM on one process or in colocate
    mode without tensor parallelism, or transformers' continuous batching; ``model`` always uses ``model.generate``.

    Not for encoder-decoder models, images, or tools.
    """

    def __init__(
        self,
        *,
        tokenizer: Any,
        prompts: Sequence[Prompt],
        passed: Callable[[int, Sequence[str]], Sequence[bool]],
        max_new_tokens: int,
        temperature: float = 0.7,
        batch: int = 64,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        engine: Literal["auto", "model"] = "auto",
    ) -> None:
        if not prompts or isinstance(prompts, str):
            raise MonitorError("evaluator: prompts must hold one prompt per held-out task, got none or a single text")
        chats = sum(not isinstance(prompt, str) for prompt in prompts)
        if chats not in (0, len(prompts)):
            raise MonitorError(
                f"evaluator: prompts must be all texts or all conversations, got {chats} of {len(prompts)} as such"
            )
        if not temperature > 0 or max_new_tokens < 1 or batch < 1:
            raise MonitorError(
                "evaluator: temperature must be above 0, max_new_tokens and batch at least 1, got "
                f"{temperature}, {max_new_tokens} and {batch}"
            )
        if engine not in ("auto", "model"):
            raise MonitorError(f"evaluator: engine must be auto or model, got {engine!r}")
        if (
            chats
            and not getattr(tokenizer, "chat_template", None)
            and not (chat_template_kwargs or {}).get("chat_template")
        ):
            raise MonitorError("evaluator: prompts are conversations and the tokenizer has no chat template; set one")
        self.tokenizer, self.prompts, self.passed = tokenizer, list(prompts), passed
        self.max_new_tokens, self.temperature, self.batch = max_new_tokens, temperature, batch
        self.chat_template_kwargs, self.engine = dict(chat_template_kwargs or {}), engine
        self._trainer: Any = None
        self._tried = False

    def use(self, trainer: Any) -> None:
        """Sample with the engine of ``trainer`` from now on, where ``engine`` allows it."""
        self._trainer = trainer

    def __call__(self, model: Any, samples: int, tasks: Sequence[int]) -> list[int]:
        refuse_encoder_decoder(model)
        ids = [row for task in tasks for row in [self._encoded(self.prompts[task])] * samples]
        engine = self.used_engine
        at_once = self.batch if engine == "model" else len(ids)
        texts: list[str] = []
        for begin in range(0, len(ids), at_once):
            texts += self._decoded(self._sample(engine, model, ids[begin : begin + at_once], samples))
        return [self._passing(task, texts[place * samples : (place + 1) * samples]) for place, task in enumerate(tasks)]

    def _passing(self, task: int, texts: list[str]) -> int:
        if not self._tried and len(texts) == 1:  # one verdict for one text does not show that it takes several
            passed_count(self.passed(task, texts * 2), 2)
        self._tried = True
        return passed_count(self.passed(task, texts), len(texts))

    @property
    def used_engine(self) -> Engine:
        """What is sampled with."""
        trainer = self._trainer
        if trainer is None or self.engine == "model":
            return "model"
        if getattr(trainer, "use_transformers_continuous_batching", False):
            return "generate_batch"
        vllm = getattr(trainer, "vllm_generation", None) if getattr(trainer, "use_vllm", False) else None
        alone = trainer.accelerator.num_processes == 1
        apart = vllm is not None and vllm.mode == "colocate" and vllm.tensor_parallel_size == 1
        return "vllm" if vllm is not None and (alone or apart) else "model"

    def _encoded(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, str):
            return list(self.tokenizer([prompt])["input_ids"][0])
        continued = prompt[-1]["role"] == "assistant"
        text = self.tokenizer.apply_chat_template(
            list(prompt),
            tokenize=False,
            add_generation_prompt=not continued,
            continue_final_message=continued,
            **self.chat_template_kwargs,
        )
        return list(self.tokenizer([text], add_special_tokens=False)["input_ids"][0])  # the template has them

    def _decoded(self, rows: Sequence[Sequence[int]]) -> list[str]:
        texts: list[str] = self.tokenizer.batch_decode(rows, skip_special_tokens=True)
        return texts

    def _sample(self, engine: Engine, model: Any, ids: list[list[int]], samples: int) -> Sequence[Sequence[int]]:
        """Token ids of one completion of each of ``ids``, where every prompt stands ``samples`` times in a row."""
        if engine == "vllm":
            return self._sample_with_vllm(ids, samples)
        if engine == "generate_batch":
            return self._sample_with_generate_batch(model, ids)
        width = max(map(len, ids))
        pad = self._padding
        device = model.device
        output = model.generate(
            input_ids=torch.tensor([[pad] * (width - len(row)) + row for row in ids], device=device),
            attention_mask=torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids], device=device),
            do_sample=True,
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
            num_return_sequences=1,
            pad_token_id=pad,
            eos_token_id=self._ends(model),
            use_cache=True,
            return_dict_in_generate=False,
            **UNCHANGED,
        )
        rows: list[list[int]] = output[:, width:].tolist()
        return rows

    def _sample_with_generate_batch(self, model: Any, ids: list[list[int]]) -> list[list[int]]:
        make: Any = GenerationConfig
        config = make(
            do_sample=True,
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
            pad_token_id=self._padding,
            eos_token_id=self._ends(model),
            top_k=0,
            top_p=1.0,
        )
        outputs = model.generate_batch(
            ids,
            generation_config=config,
            continuous_batching_config=self._trainer.continuous_batching_config,
            progress_bar=False,
        )
        rows = [list(output.generated_tokens) for output in outputs.values()]
        if len(rows) != len(ids):  # it returns what it has where something failed
            raise RuntimeError(f"generate_batch returned {len(rows)} of {len(ids)} completions")
        return rows

    def _sample_with_vllm(self, ids: list[list[int]], samples: int) -> list[list[int]]:
        vllm = self._trainer.vllm_generation
        vllm.sync_weights()  # the weights to evaluate may be those of an earlier step
        self._trainer._last_loaded_step = -1  # so training loads its own again before it samples
        settings: dict[str, Any] = {
            "temperature": self.temperature,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "max_completion_length": self.max_new_tokens,
        }
        others = ("presence_penalty", "frequency_penalty", "max_tokens", "n")
        kept = {k: v for k, v in vllm.generation_kwargs.items() if k not in (*settings, *others)}
        settings["generation_kwargs"] = kept  # it has the last word; stop texts stay
        with _set(vllm, settings):
            _, rows, _, _ = vllm.generate(prompts=ids, images=None, num_generations=samples)
        return [list(row) for row in rows]

    def _ends(self, model: Any) -> list[int] | None:
        """Tokens that end a completion, as TRL's trainers have it: those of the model and the tokenizer's."""
        own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
        ends = {*(own if isinstance(own, list) else [own]), getattr(self.tokenizer, "eos_token_id", None)} - {None}
        return sorted(ends) or None

    @property
    def _padding(self) -> int:
        """Masked, so any token will do where the tokenizer has none for it."""
        for token in (self.tokenizer.pad_token_id, getattr(self.tokenizer, "eos_token_id", None)):
            if token is not None:
                return int(token)
        return 0


@contextmanager
def _set(owner: Any, settings: Mapping[str, Any]) -> Iterator[None]:
    """``owner`` with other attributes for a while."""
    before = {name: getattr(owner, name) for name in settings}
    try:
        for name, value in settings.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)
