"""Title, abstract, facts and limits of a paper, all chosen by a run's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitgap.disparity.audit import SHARE_UNSETTLED
from bitgap.report.paper.findings import formal_sentences
from bitgap.report.paper.text import model_name, number, sentence, signs
from bitgap.report.paper.triple import protection_sentences, title
from bitgap.report.run import Run
from bitgap.report.words.answers import Answer, answers
from bitgap.report.words.phrases import counted, joined, language_name
from bitgap.report.words.sections import failed
from bitgap.report.words.theory import pillar_sentence, suggestion
from bitgap.show.numbers import lacks, short_name
from bitgap.stats.verdicts import load_thresholds

Json = Mapping[str, Any]
_ADVISED_SENTENCES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What a paper says outside its tables and hypotheses."""

    title: str
    abstract: str
    answers: Mapping[str, Answer]
    subject: str
    """What was measured, in a few words."""
    running: str
    """The same, for the head of a page."""
    materials: tuple[str, ...]
    """Models, text, quantizer and size, a sentence each."""
    protection: tuple[str, ...]
    """What protecting the origin's triple does, to English as well as to the disparity."""
    limits: tuple[str, ...]
    conclusion: tuple[str, ...]


def story(run: Run) -> Story:
    """Returns what a paper on an investigation or a theory run says."""
    found = {a.key: a for a in answers(run)}
    families = run.command == "theory"
    subject = _families_subject(run.result) if families else _model_subject(run.result)
    return Story(
        title=title(run),
        abstract=_abstract(run, found, subject),
        answers=found,
        subject=subject,
        running=subject.split(", of")[0],
        materials=_family_materials(run.result) if families else _model_materials(run.result),
        protection=protection_sentences(run.masks),
        limits=_family_limits(run.result) if families else _model_limits(run),
        conclusion=_conclusion(run, found),
    )


def _abstract(run: Run, found: Mapping[str, Answer], subject: str) -> str:
    findings = run.result["findings"]
    parts = [
        "Low-bit quantization does not hurt all languages alike. An earlier study of GPT-2 found "
        "that protecting three blocks, the first, the one at three quarters of the depth and the "
        "last, shrinks the disparity, and could not say why.",
        f"We test {counted(len(findings), 'hypothesis', 'hypotheses')}, with thresholds declared "
        f"in a hashed file and controls that can fail, on {subject}.",
    ]
    if why := found.get("why"):
        parts += [f"As to these three blocks: {lowered(why.short)}", *why.details[:2]]
    if (langs := found.get("languages")) and run.command != "theory":
        parts += [langs.short, *langs.details[1:3]]
    parts += formal_sentences(findings)[:1]
    parts.append(found["hypotheses"].short)
    return " ".join(sentence(part) for part in parts if part)


def _families_subject(result: Json) -> str:
    models = result["models"]
    families = len({m["family"] for m in models})
    languages = {code for m in models for code in m["languages"]}
    return (
        f"{counted(len(models), 'model')} of {counted(families, 'family', 'families')} in "
        f"{counted(len(languages), 'language')}"
    )


def _model_subject(result: Json) -> str:
    languages = len(result["audit"]["languages"])
    return (
        f"{model_name(result['model'])}, of {counted(result['n_blocks'], 'block')}, in "
        f"{counted(languages, 'language')}"
    )


def _family_materials(result: Json) -> tuple[str, ...]:
    models = result["models"]
    # Before version 3 of the rules one checkpoint spoke for its family; now they are averaged.
    beside = {
        row["model"]
        for finding in result["findings"]
        for row in finding["tables"].get("families", ())
        if not row["speaks"]
    }
    further = [short_name(m["model"]) for m in models if m["model"] in beside]
    members: dict[str, list[str]] = {}
    for m in models:
        if m["model"] not in beside:
            members.setdefault(m["family"], []).append(short_name(m["model"]))
    named = [f"{family} ({', '.join(names)})" for family, names in members.items()]
    averaged = any(len(names) > 1 for names in members.values())
    together = ", whose checkpoints are averaged before families are pooled" if averaged else ""
    blocks = sorted({m["n_blocks"] for m in models})
    schemes = sorted({m["scheme"] for m in models})
    said = [
        f"The models are of {counted(len(members), 'family', 'families')}{together}: "
        f"{joined(named)}.",
        f"They have {joined([str(b) for b in blocks])} blocks and are rounded by "
        f"{joined(schemes)}, each at its own operating point.",
        f"The text is the parallel corpus “{result['corpus']}”, tier “{result['tier']}”.",
    ]
    if further:
        said.insert(1, f"Shown beside, and not counted: {joined(further)}.")
    return tuple(said)


def _model_materials(result: Json) -> tuple[str, ...]:
    audit, found = result["audit"], result["map"]
    names = [language_name(code) for code in audit["languages"]]
    every = "all" if found["all_masks"] else "a sample of"
    said = [
        f"The model is {model_name(result['model'])}, with {result['n_blocks']} blocks; its "
        f"weights are identified by the fingerprint {result['model_fingerprint'][:12]}.",
        f"The text is {audit['n_sentences']} parallel sentences of the corpus "
        f"“{result['corpus']}” in {joined(names)}; {language_name(audit['reference'])} is the "
        f"reference.",
        f"The operating point is {result['operating_point']}, tier “{result['tier']}”.",
        f"The map scores {every} sets of protected blocks, {found['masks']:,} of them, on "
        f"{counted(found['sentences'], 'sentence')} a language.",
    ]
    for scheme, codes in result["collapsed_below"].items():
        said.append(f"At {scheme}, {joined([language_name(c) for c in codes])} collapsed.")
    short = result.get("sentences_too_short") or 0
    if long := result["sentences_dropped"] - short:
        said.append(f"Left out as too long for the model: {counted(long, 'sentence')}.")
    if short:
        said.append(f"Left out as too short to be scored: {counted(short, 'sentence')}.")
    if result.get("prefix"):
        said.append(f"The model is given {result['prefix']}.")
    return tuple(said)


_ALWAYS = (
    "Thresholds are declared and hashed; where a rule of judgement was changed after data had been "
    "seen, the project's decision records date the change and say why.",
    "Parallel sentences do not carry equal information in every language; comparisons of plans "
    "within one language do not depend on that.",
    "KL divergence measures how much the model's predictions move and not whether they get worse; "
    "the gap G and the harm H, on real text, are read beside it.",
    "Rounding is simulated: weights alone are quantized, symmetric and to the nearest, and no "
    "calibration data are used. Methods that use them may distribute damage otherwise.",
)


def _family_limits(result: Json) -> tuple[str, ...]:
    least = load_thresholds().families_min
    families = len({m["family"] for m in result["models"]})
    enough = (
        f"Families are the unit: there are {families}, and a verdict of the theory needs {least}. "
        f"What holds for models of this size need not hold for larger ones."
    )
    short = [f["hypothesis"] for f in result["findings"] if _few_families(f, least)]
    said = [enough]
    if short:
        said.append(
            f"{joined(short)} could be tested in too few families to speak for more than a model."
        )
    left = {short_name(m["model"]): m["left_out"] for m in result["models"] if m["left_out"]}
    if left:
        each = [f"{name} without {joined(sorted(codes))}" for name, codes in left.items()]
        said.append(f"Languages that collapsed or fell below resolution were left out: "
                    f"{'; '.join(each)}.")  # fmt: skip
    return (*said, *_missed(result["findings"]), *_ALWAYS)


def _few_families(finding: Json, least: int) -> bool:
    n = finding["estimates"][finding["primary"]]["n"]
    units = finding["verdict"]["scope"].partition(":")[0]
    return units.endswith(("family", "families")) and 0 < n < least


def _model_limits(run: Run) -> tuple[str, ...]:
    result = run.result
    audit, found = result["audit"], result["map"]
    said = [
        f"One model was measured, and every verdict is on this model: support for the theory needs "
        f"{load_thresholds().families_min} families."
    ]
    if audit["n_sentences"] < _ADVISED_SENTENCES:
        said.append(
            f"There are {audit['n_sentences']} sentences a language in the audit and "
            f"{found['sentences']} in the map; {_ADVISED_SENTENCES} or more are advised, and "
            f"intervals over so few are wide and approximate."
        )
    if not found["all_masks"]:
        said.append(
            f"Shapley values come from {found['masks']:,} of the 2^{found['n_blocks']} sets of "
            f"protected blocks, and the best sets are the best of those."
        )
    if result["languages_unreadable"]:
        said.append(f"Left out, as unreadable: {joined(sorted(result['languages_unreadable']))}.")
    d, share = audit["D"], audit["D_share"]
    established = audit.get("unigram_tokens") is not None
    if d is not None and share is not None and d * share < 0 and not established:
        said.append(
            f"D ({number(d)}) and its learned share ({number(share)}) differ in sign, and of the "
            f"learned share nothing is concluded: {SHARE_UNSETTLED}."
        )
    return (*said, *_missed(result["findings"]), *_ALWAYS)


def _missed(findings: Sequence[Json]) -> list[str]:
    names = [f["hypothesis"] for f in findings if failed(f["controls"], positive=True)]
    if not names:
        return []
    return [
        f"A planted effect was missed for {joined(names)}; there the design is too weak for its "
        f"silence to count."
    ]


def _conclusion(run: Run, found: Mapping[str, Answer]) -> tuple[str, ...]:
    said = [f"As to the three blocks: {lowered(found['why'].short)}"] if "why" in found else []
    said.append(found["hypotheses"].short)
    if pillars := run.result.get("pillars"):
        said.append(pillar_sentence(pillars))
    said += formal_sentences(run.result["findings"])[:1]
    return tuple(signs(part) for part in said)


def lowered(text: str) -> str:
    """Returns a sentence as it goes on after a colon."""
    name = not text[1:2].islower() and text[1:2] != " "
    return text if name else text[:1].lower() + text[1:]


def suggestions(result: Json) -> list[str]:
    """Returns what the data suggest instead, with intervals."""
    return [
        signs(suggestion(r))
        for r in result.get("outcomes", {}).get("suggested", ())
        if not lacks((r["low"], r["high"]))
    ]
