"""All attacks."""

from sr_reward.attacks.burdening import BURDENING
from sr_reward.attacks.deciding import DECIDING
from sr_reward.attacks.exhausting import EXHAUSTING
from sr_reward.attacks.forging import FORGING
from sr_reward.attacks.lasting import LASTING
from sr_reward.attacks.model import Attack
from sr_reward.attacks.reaching import REACHING
from sr_reward.attacks.sharing import SHARING

ATTACKS: tuple[Attack, ...] = (*FORGING, *DECIDING, *REACHING, *EXHAUSTING, *LASTING, *SHARING, *BURDENING)
