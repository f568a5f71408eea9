"""The mutants: for each requirement that is met, the behaviour taken out."""

from __future__ import annotations

from ..mutate import Mutant
from .before_the_checks import BEFORE_THE_CHECKS
from .eight_checks import EIGHT_CHECKS
from .labels_may import MAY
from .labels_must import MUST
from .labels_should import SHOULD

MUTANTS: tuple[Mutant, ...] = (*MUST, *SHOULD, *MAY, *BEFORE_THE_CHECKS, *EIGHT_CHECKS)
