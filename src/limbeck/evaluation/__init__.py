"""The judge: train on a set, score on real data, and the baselines that any set has to beat."""

from limbeck.evaluation.baselines import FINE_TUNING, baseline_names
from limbeck.evaluation.judge import evaluate
from limbeck.evaluation.kept import read_scores
from limbeck.evaluation.learned_set import LearnedSet
from limbeck.evaluation.result import Evaluation, Row
from limbeck.evaluation.train_and_score import Scores, score, train
from limbeck.evaluation.training import RECIPES, LearnedSchedule, OrdinaryTraining, TrainingRecipe

__all__ = [
    "FINE_TUNING",
    "RECIPES",
    "Evaluation",
    "LearnedSchedule",
    "LearnedSet",
    "OrdinaryTraining",
    "Row",
    "Scores",
    "TrainingRecipe",
    "baseline_names",
    "evaluate",
    "read_scores",
    "score",
    "train",
]
