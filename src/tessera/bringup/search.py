"""A real question answered: three queries over ten sentences, ranked by PyTorch's kernels and by ours."""

from __future__ import annotations

import torch

from tessera.accuracy.double import InDouble, double_copy
from tessera.bringup.kernels import Kernels, switched_on
from tessera.bringup.models.subject import Subject
from tessera.bringup.models.text import Texts, load_texts
from tessera.bringup.result import Answer, Found, Search


def answer_queries(subject: Subject, kernels: Kernels) -> Search | None:
    """Embed all texts both ways and rank; None if the subject is no sentence encoder.

    Two rankings agree if they are the same, but for pairs whose float64 scores lie closer than PyTorch's own two
    scores may be off together: which of those comes first is rounding.
    """
    if subject.embed is None:
        return None
    texts = load_texts()
    by_torch = _embed(subject, texts)
    with switched_on(kernels):
        by_ours = _embed(subject, texts)
    with InDouble():  # type: ignore[no-untyped-call]
        exact = subject.embed(double_copy(subject.model), _all(texts)).double()
    num_queries = len(texts.queries)
    scores = [vectors[:num_queries] @ vectors[num_queries:].T for vectors in (by_torch, by_ours, exact)]
    noise = float((scores[0] - scores[2]).abs().max())
    answers = tuple(
        _answer(query, texts.sentences, scores[0][index], scores[1][index], scores[2][index], 2 * noise)
        for index, query in enumerate(texts.queries)
    )
    return Search(answers=answers, cosine=float((by_torch * by_ours).sum(-1).min()))


def _all(texts: Texts) -> tuple[str, ...]:
    return texts.queries + texts.sentences


def _embed(subject: Subject, texts: Texts) -> torch.Tensor:
    """Float64 [texts, width], so that scores add no rounding of their own."""
    assert subject.embed is not None, "only sentence encoders get here"
    vectors = subject.embed(subject.model, _all(texts)).double()
    lengths: torch.Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / lengths


def _answer(
    query: str,
    sentences: tuple[str, ...],
    by_torch: torch.Tensor,
    by_ours: torch.Tensor,
    exact: torch.Tensor,
    tie: float,
) -> Answer:
    torch_ranks, ours_ranks = _ranks(by_torch), _ranks(by_ours)
    found = [
        Found(
            sentence=sentence,
            torch_score=float(by_torch[index]),
            ours_score=float(by_ours[index]),
            torch_rank=torch_ranks[index],
            ours_rank=ours_ranks[index],
        )
        for index, sentence in enumerate(sentences)
    ]
    agrees = not any(
        (torch_ranks[i] < torch_ranks[j]) != (ours_ranks[i] < ours_ranks[j]) and abs(float(exact[i] - exact[j])) > tie
        for i in range(len(sentences))
        for j in range(i)
    )
    return Answer(query=query, found=tuple(sorted(found, key=lambda row: row.ours_rank)), agrees=agrees)


def _ranks(scores: torch.Tensor) -> list[int]:
    """The rank of each score, 1 for the highest."""
    ranks = [0] * len(scores)
    for rank, index in enumerate(scores.argsort(descending=True, stable=True).tolist(), start=1):
        ranks[index] = rank
    return ranks
