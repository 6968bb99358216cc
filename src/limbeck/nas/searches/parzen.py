"""The tree-structured Parzen estimator (Bergstra et al. 2011), Optuna's (extra: nas)."""

from __future__ import annotations

from collections.abc import Mapping

from limbeck.nas.searches.optuna_terms import distributions_of, options_by_choice, quiet
from limbeck.nas.searches.strategy import Question
from limbeck.nas.spaces.base import Arch


def propose_by_parzen(question: Question, settings: Mapping[str, int]) -> Arch:
    """Optuna's sampler, in a study of its own that holds the trials in order: what it sees is the same every time."""
    import optuna
    from optuna.trial import TrialState, create_trial

    space = question.space
    distributions = distributions_of(space)
    with quiet():
        study = optuna.create_study(direction="maximize")
    study.sampler = optuna.samplers.TPESampler(seed=int(question.rng().integers(2**31)))
    complete = [
        create_trial(
            state=TrialState.COMPLETE,
            value=score,
            params=options_by_choice(space, arch),
            distributions=distributions,
        )
        for arch, score in question.scored
    ]
    running = [
        create_trial(state=TrialState.RUNNING, params=options_by_choice(space, arch), distributions=distributions)
        for arch in question.mates
    ]
    study.add_trials([*complete, *running])
    trial = study.ask(distributions)
    return tuple(trial.params[name] for name in space.choices)
