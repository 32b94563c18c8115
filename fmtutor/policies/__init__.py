"""Policies: plans of positions to come, a world to act in, and what reward does to a flow.

from fmtutor.networks import ObservingMLP
from fmtutor.policies import Room, chunks_of, follow_plans
seen, plans = chunks_of(demonstrations, length=32)
fit(ObservingMLP(64, 4), plans, cond=seen)

Chapter: policies
"""

from fmtutor.policies.chunks import Chunks, Scale, chunks_of, shifted
from fmtutor.policies.control import Drive as Drive  # aliases, for annotations
from fmtutor.policies.control import Policy as Policy
from fmtutor.policies.control import Rollout, follow_plans, push
from fmtutor.policies.control import Step as Step
from fmtutor.policies.critics import (
    Critic,
    Transitions,
    actor_loss,
    advantage_weights,
    bellman_target,
    expectile_loss,
    iql_loss,
    transitions_of,
)
from fmtutor.policies.demonstrations import load_demonstrations, save_demonstrations
from fmtutor.policies.reward import tilted, weighted_cfm_loss
from fmtutor.policies.room import Room

__all__ = [
    "Chunks",
    "Critic",
    "Rollout",
    "Room",
    "Scale",
    "Transitions",
    "actor_loss",
    "advantage_weights",
    "bellman_target",
    "chunks_of",
    "expectile_loss",
    "follow_plans",
    "iql_loss",
    "load_demonstrations",
    "push",
    "save_demonstrations",
    "shifted",
    "tilted",
    "transitions_of",
    "weighted_cfm_loss",
]
