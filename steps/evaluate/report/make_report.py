"""Puts the evaluation's report together."""

import time

from recipes.evaluation import Question
from steps.common.handover.report import EvaluationReport
from steps.common.handover.report_parts import (
    ChatMessage,
    CostSoFar,
    Gains,
    GeneralAbility,
    ModelAnswers,
    ModelRole,
    ModelScores,
    PreparedData,
    QuotedRun,
    RowScores,
    SamplePiece,
    TuningReport,
)
from steps.common.handover.resolved import Hardware, Resolved
from steps.common.rows.conversation import Conversation
from steps.evaluate.gate.comparison import Champion, Comparison
from steps.evaluate.gate.gate import Verdict, meets
from steps.evaluate.scores.score import Score


def make_report(
    resolved: Resolved,
    hardware: Hardware,
    scores: dict[ModelRole, Score],
    champion: Champion | None,
    comparison: Comparison,
    verdict: Verdict,
    answers: list[ModelAnswers],
    data: PreparedData | None,
    tuning: TuningReport | None,
    sample: list[SamplePiece],
) -> EvaluationReport:
    """Put the report together.

    Args:
        resolved: the resolved recipe.
        hardware: what the run computed on.
        scores: by role; the champion is missing if there is none on the same base.
        champion: the version served now.
        comparison: the candidate's differences from the others.
        verdict: the gate's.
        answers: see `answers_side_by_side`.
        data: the report of `prepare`.
        tuning: the report of `tune`.
        sample: a training row, see `sample.masked`.
    """
    rung, quote = hardware.rung, resolved.quote
    return EvaluationReport(
        run=resolved.run,
        passed=verdict.passed,
        reasons=verdict.reasons,
        champion_version=champion.version if champion else 0,
        champion_sha256=(champion.adapter_sha256 or None) if champion else None,
        evaluated="in 4 bits, as tuned" if rung.evaluated_in_4_bits else "as served",
        cost=_cost(resolved, hardware),
        quote=QuotedRun(tokens=quote.tokens, steps=quote.steps, minutes=quote.first.minutes, on=rung.name),
        scores={role: _scores(score, comparison, role) for role, score in scores.items()},
        rows={
            role: RowScores(nats=score.nats, labelled=score.labelled, right=score.right)
            for role, score in scores.items()
        },
        gains=Gains(base=comparison.base, champion=comparison.champion),
        general=_general(scores, comparison),
        tasks=comparison.tasks,
        data=data,
        tuning=tuning,
        sample=sample,
        answers=answers,
    )


def answers_side_by_side(
    questions: list[Question], samples: list[tuple[Conversation, str]], scores: dict[ModelRole, Score]
) -> list[ModelAnswers]:
    """Return each question and sampled chat with every model's answer.

    Args:
        questions: the recipe's; the first answers of each score are theirs.
        samples: held-out chats, each with the answer in the data; the next answers of each score are theirs.
        scores: by role.
    """
    champion = scores.get("champion")
    asked: list[tuple[Conversation, str, Question | None]] = [
        (Conversation.of(("user", one.ask)), "", one) for one in questions
    ]
    asked += [(chat, answer, None) for chat, answer in samples]
    return [
        ModelAnswers(
            asked=chat.answer.content,
            messages=_messages(chat),
            wanted=answer,
            base=scores["base"].answers[number],
            candidate=scores["candidate"].answers[number],
            champion=champion.answers[number] if champion else None,
            expect=question.expect if question else None,
            candidate_meets=meets(question, scores["candidate"].answers[number]) if question else None,
        )
        for number, (chat, answer, question) in enumerate(asked)
    ]


def _messages(chat: Conversation) -> list[ChatMessage] | None:
    """Return what the live gate asks; None if it cannot, since it sends texts alone."""
    if not chat.is_text:
        return None
    return [ChatMessage(role=message.role, content=message.content) for message in chat.messages]


def _scores(score: Score, comparison: Comparison, role: ModelRole) -> ModelScores:
    pairs = {"candidate": comparison.preference, "champion": comparison.preference_of_champion}.get(role)
    return ModelScores(
        loss=score.loss,
        perplexity=score.perplexity,
        accuracy=score.accuracy,
        tokens=score.tokens,
        pairs=pairs.pairs if pairs else None,
        preference_accuracy=pairs.preference_accuracy if pairs else None,
        preference_margin=pairs.preference_margin if pairs else None,
        preference_loss=pairs.preference_loss if pairs else None,
    )


def _general(scores: dict[ModelRole, Score], comparison: Comparison) -> GeneralAbility | None:
    if comparison.general is None:
        return None
    shares = {role: sum(score.general) / len(score.general) for role, score in scores.items() if score.general}
    return GeneralAbility(accuracy=shares, gain=comparison.general)


def _cost(resolved: Resolved, hardware: Hardware) -> CostSoFar | None:
    """Return what was quoted and what the node has cost up to now; None if none was bought."""
    rung = hardware.rung
    if not rung.instance_type:
        return None
    hours = max(0.0, time.time() - hardware.since) / 3600
    return CostSoFar(
        instance_type=rung.instance_type,
        capacity=rung.capacity,
        price=rung.price,
        priced_on=rung.priced_on,
        quoted=resolved.quote.first.cost,
        hours=round(hours, 3),
        so_far=None if rung.price is None else round(hours * rung.price, 2),
    )
