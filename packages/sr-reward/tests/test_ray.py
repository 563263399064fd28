"""The grader on a real Ray cluster of two nodes on this machine."""

import os

import pytest

from sr_reward import CallCase, CallTests, Task, TaskError
from sr_reward.integrations.ray import RayGrader

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"  # under `uv run` Ray would build this project anew for each worker
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # on those systems, and so here, Ray stays on the loopback
ray = pytest.importorskip("ray", reason="needs ray: uv sync --inexact --group bench")
TASK = Task(
    task_id="t", prompt="def f(x):\n", entry_point="f", tests=CallTests(cases=(CallCase(args=(1,), expected=2),))
)


def texts(count):
    return [f"    return x + {1 if number % 3 else 2}  # {number}\n" for number in range(count)]


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster

    local = {"num_cpus": 1, "object_store_memory": 80 << 20}
    made = Cluster(initialize_head=True, head_node_args={**local, "include_dashboard": False})
    made.second = made.add_node(**local)
    yield made
    made.shutdown()


def test_a_batch_completes_although_a_node_is_killed_in_the_middle(cluster):
    count = 600
    with RayGrader(cluster.address, workers=1) as grader:
        assert len(grader._pools) == 2
        assert grader.isolation in ("full", "landlock", "limits")
        found = {}
        for index, grade in grader.stream([TASK] * count, texts(count)):
            found[index] = grade.outcome
            if len(found) == 100:
                cluster.remove_node(cluster.second, allow_graceful=False)
        assert len(grader._pools) == 1, "the killed node was not noticed"
        assert [found[index] for index in range(count)] == ["passed" if n % 3 else "failed" for n in range(count)]


def test_an_address_where_nobody_answers_is_named():
    with pytest.raises(TaskError, match=r"127\.0\.0\.1:9"):
        RayGrader("127.0.0.1:9")
