"""Seeded one-line defects that the tests must catch: `python tests/mutants.py [name ...]`, or `pytest -m slow`.

Each mutant changes one place of a copy of the package and runs, against that copy, the test file that should notice. A test
suite that lets one live says nothing about the mistake it stands for. The copy as it is must pass the same files, and a
mutant whose line is no longer there is an error: mend it together with the line.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parent
PACKAGE = TESTS.parent / "pcnet"
PASSED, FAILED = 0, 1
TIME_LIMIT, TIME_LIMIT_OF_ALL = 300, 900


@dataclass(frozen=True)
class Mutant:
    """A defect.

    Args:
        name: what went wrong.
        file: in the package.
        line: what stands there once.
        defect: what stands there instead.
        test: the file that should notice, or one test in it.
    """

    name: str
    file: str
    line: str
    defect: str
    test: str

    def check(self) -> None:
        """Raise unless the line is there once and the test exists."""
        count = (PACKAGE / self.file).read_text().count(self.line)
        if count != 1:
            raise LookupError(f"{self.name}: {self.line!r} is found {count} times in {self.file}")
        path, _, function = self.test.partition("::")
        if f"def {function}" not in (TESTS / path).read_text():
            raise LookupError(f"{self.name}: there is no {self.test}")

    def apply(self, package: Path) -> None:
        """Put the defect into a copy of the package."""
        target = package / self.file
        target.write_text(target.read_text().replace(self.line, self.defect))


TOKEN_STEPS = "networks/time/token_steps.py"
TOKEN, TEMPORAL, SOLVE = "networks/fast/token_problem.py", "networks/time/network.py", "inference/loop.py"
ENERGY_TESTS, SOLVE_TESTS = "numerics/test_token_energy.py", "numerics/test_solve.py"
RATE_TESTS = "numerics/test_solvers_rates.py"
GRADIENT_TESTS, CAPTURE_TESTS = "numerics/test_gradients.py", "integration/test_capture.py"
BELIEF_TESTS, PROCESS_TESTS = "numerics/test_process_beliefs.py", "numerics/test_processes.py"
TRAINING_TESTS, PREDICTOR_TESTS = "integration/test_training.py", "contracts/test_predictors.py"
GRAPH_TESTS, EQUILIBRIUM_TESTS = "numerics/test_graph_learning.py", "numerics/test_equilibrium_gradients.py"
SUPERVISED_TESTS = "integration/test_supervised.py"

MUTANTS = [
    # processes
    Mutant(
        "belief not normalised",
        "processes/models/hmm.py",
        "return joint / probabilities.unsqueeze(1), probabilities",
        "return joint, probabilities",
        BELIEF_TESTS,
    ),
    Mutant(
        "emission by arrival instead of departure",
        "processes/models/hmm.py",
        "return (self.transition_matrices @ self.right_vector).T.contiguous()",
        "return (self.right_vector @ self.transition_matrices).T.contiguous()",
        BELIEF_TESTS,
    ),
    Mutant(
        "belief off by one token",
        "processes/beliefs/filtering.py",
        "beliefs[1:] for part in found], filtered",
        "beliefs[:-1] for part in found], filtered",
        BELIEF_TESTS,
    ),
    Mutant(
        "stationary law of the reversed chain",
        "processes/models/stationary.py",
        "law[k] = law[:k] @ routed[:k, k]",
        "law[k] = law[:k] @ routed[k, :k]",
        PROCESS_TESTS,
    ),
    Mutant(
        "first token drawn with the start's number",
        "processes/beliefs/sampling.py",
        "uniforms[1:], self.rows)",
        "uniforms[:-1], self.rows)",
        "numerics/test_sampling.py",
    ),
    Mutant(
        "word without its parent's probability",
        "processes/beliefs/word_tree.py",
        "probabilities=level.probabilities[parents] * probabilities",
        "probabilities=probabilities",
        BELIEF_TESTS,
    ),
    Mutant(
        "entropies in bits",
        "processes/information/entropies.py",
        "return torch.special.entr(laws).sum(-1)",
        "return torch.special.entr(laws).sum(-1) / 0.6931471805599453",
        "numerics/test_process_information.py",
    ),
    Mutant(
        "constrained belief without its past",
        "processes/beliefs/constrained.py",
        "for lag in range(words.tokens.shape[1]):",
        "for lag in range(1):",
        BELIEF_TESTS,
    ),
    # energies of one token
    Mutant("missing 1/2", TOKEN, "energy = 0.5 * mismatch", "energy = mismatch", ENERGY_TESTS),
    Mutant("dropped log-determinant", TOKEN, "surprise + self.log_normaliser", "surprise", ENERGY_TESTS),
    Mutant(
        "dropped log-determinant of a module",
        "energies/gaussian.py",
        "* error * error).sum(-1) + self.log_normaliser",
        "* error * error).sum(-1)",
        ENERGY_TESTS,
    ),
    Mutant("sign of the signal", TOKEN, "addcmul(xi, D, s, value=-1)", "addcmul(xi, D, s, value=1)", ENERGY_TESTS),
    Mutant("tanh without its 2", "networks/activations.py", "tanh_of_half(x + x)", "tanh_of_half(x)", ENERGY_TESTS),
    Mutant("curvature without its 2", TOKEN, "D * (2 * a * s * x - ds)", "D * (a * s * x - ds)", ENERGY_TESTS),
    Mutant(
        "softmax curvature not centred",
        TOKEN,
        "point.law * (first - (point.law * first).sum(-1, keepdim=True))",
        "point.law * first",
        ENERGY_TESTS,
    ),
    Mutant("wrong transposition going up", TOKEN, "tuple(xi @ W for xi, W", "tuple(xi @ W.T for xi, W", ENERGY_TESTS),
    Mutant(
        "errors not pulled through the slope",
        TOKEN,
        "(group, D, pulled[-1] @ W)",
        "(group, D * 0 + 1, pulled[-1] @ W)",
        ENERGY_TESTS,
    ),
    Mutant(
        "metric without its floor",
        TOKEN,
        "torch.maximum(2 * a * D * s, -0.5 * precision)",
        "2 * a * D * s",
        ENERGY_TESTS,
    ),
    Mutant(
        "unweighted error sent to the past",
        TOKEN,
        "            precision * c\n",
        "            c\n",
        ENERGY_TESTS,
    ),
    Mutant(
        "nudged away",
        TOKEN,
        "strength * (log_law.exp() - self.outcome)",
        "strength * (self.outcome - log_law.exp())",
        ENERGY_TESTS,
    ),
    # inference
    Mutant(
        "one group converged is enough",
        SOLVE,
        "(residual <= bound).all(-1)",
        "(residual <= bound).any(-1)",
        SOLVE_TESTS,
    ),
    Mutant("norm instead of rms", SOLVE, "[group.shape[-1] ** 0.5 for", "[1.0 for", SOLVE_TESTS),
    Mutant("finished rows not frozen", SOLVE, "torch.where(active_rows, new, old)", "new", SOLVE_TESTS),
    Mutant("steps counted for finished rows", SOLVE, "steps += active", "steps += 1", SOLVE_TESTS),
    Mutant(
        "diverged rows unnamed",
        SOLVE,
        ".masked_fill_(~residual.isfinite().all(-1), Status.DIVERGED.value)",
        "",
        SOLVE_TESTS,
    ),
    Mutant("one finished row ends it for all", SOLVE, "moving == 0", "moving != len(active)", SOLVE_TESTS),
    Mutant(
        "momentum counts from the start",
        "inference/gradient.py",
        "Velocity(point.values, carry.pace)",
        "Velocity(carry.before, carry.pace)",
        SOLVE_TESTS,
    ),
    Mutant(
        "rows dropped from the problem only",
        SOLVE,
        "select(self.carry, keep)",
        "select(self.carry, keep.flip(0))",
        "contracts/test_solvers.py::test_dropping_finished_rows_changes_rounding_only",
    ),
    Mutant(
        "the second slope of Heun forgotten",
        "inference/gradient.py",
        "scale(add(point.residual, ahead.residual), -0.5 * step_size)",
        "scale(add(point.residual, point.residual), -0.5 * step_size)",
        f"{RATE_TESTS}::test_order_against_the_exact_flow",
    ),
    Mutant(
        "Anderson extrapolates values but not residuals",
        "inference/anderson.py",
        "step_size * left",
        "step_size * residual",
        f"{RATE_TESTS}::test_anderson_is_gmres_followed_by_a_plain_step",
    ),
    Mutant(
        "descent in errors that reads the gradient in values",
        "inference/error_coordinates.py",
        "self.problem.error_gradient(origin), origin.energy",
        "origin.residual, origin.energy",
        f"{RATE_TESTS}::test_descent_in_errors_is_descent_on_the_energy_of_the_errors",
    ),
    Mutant(
        "Lanczos without reorthogonalisation",
        "inference/curvature.py",
        "range(2):  # twice",
        "range(0):  # twice",
        "numerics/test_solvers_curvature.py::test_lanczos_stays_orthogonal_over_many_steps",
    ),
    Mutant(
        "a trust region that nothing bounds",
        "inference/trust_region.py",
        "torch.minimum(length, edge)",
        "length",
        "numerics/test_solvers_newton.py::test_at_the_edge_the_step_is_as_long_as_the_radius_and_no_worse_than_steepest_descent",
    ),
    Mutant(
        "negative curvature taken for positive",
        "inference/trust_region.py",
        "going = curvature > flat",
        "going = curvature == curvature",
        "numerics/test_solvers_newton.py::test_where_the_energy_curves_down_the_step_ends",
    ),
    Mutant(
        "a safeguard that goes back and forth",
        "inference/monotone.py",
        "torch.where(misled, 1 / self.shrink, self.shrink)",
        "torch.where(misled, 1.0, 1.0)",
        "numerics/test_solvers_newton.py::test_monotone_goes_back_and_shortens_what_follows",
    ),
    Mutant(
        "momentum through a kink",
        "inference/gradient.py",
        "torch.where(x == 0, 0.0, v)",
        "v",
        "numerics/test_solvers_sparse.py::test_a_unit_that_was_stopped_loses_its_momentum",
    ),
    Mutant(
        "half the temperature",
        "inference/langevin.py",
        "math.sqrt(2 * step_size * temperature)",
        "math.sqrt(step_size * temperature)",
        "numerics/test_solvers_langevin.py::test_stationary_law_of_the_discretised_chain",
    ),
    Mutant(
        "going back the whole step again",
        "inference/trust_region.py",
        "Found(factor * step, factor * derivative",
        "Found(step, factor * derivative",
        "numerics/test_solvers_newton.py::test_newton_goes_back_along_a_step_that_gained_nothing",
    ),
    Mutant(
        "backtracking that goes nowhere",
        "inference/gauss_newton.py",
        "Backtracking(self.energy, self.start, scale(self.step, SHRINK))",
        "Backtracking(self.energy, self.start, self.step)",
        SOLVE_TESTS,
    ),
    Mutant(
        "conjugate gradients that are not conjugate",
        "inference/linear.py",
        "share = decrement / torch.where",
        "share = 0.0 * decrement / torch.where",
        SOLVE_TESTS,
    ),
    # networks
    Mutant(
        "past off by one token",
        TEMPORAL,
        "for _, memory in walk)][:-1]",
        "for _, memory in walk)][1:]",
        f"{PREDICTOR_TESTS}::test_a_temporal_network_forecasts_from_the_equilibria_of_the_tokens_before",
    ),
    Mutant(
        "forecast read from the token's own values",
        "networks/time/steps.py",
        "self.read(self.expected(rows), rows)",
        "self.read(rows, rows)",
        f"{PREDICTOR_TESTS}::test_the_forecast_of_a_temporal_network_is_the_law_at_zero_error",
    ),
    Mutant(
        "prediction with the wrong sign of the error",
        TOKEN_STEPS,
        "point.values[index] - point.errors",
        "point.values[index] + point.errors",
        f"{CAPTURE_TESTS}::test_sites_of_a_temporal_network_are_what_they_are_called",
    ),
    Mutant(
        "causal mask one token late",
        "baselines/transformer.py",
        ".tril(past)",
        ".tril(past + 1)",
        f"{PREDICTOR_TESTS}::test_a_later_token_changes_no_earlier_logits",
    ),
    Mutant(
        "missing causal mask",
        "baselines/transformer.py",
        "attn_mask=mask",
        "attn_mask=None",
        f"{PREDICTOR_TESTS}::test_a_later_token_changes_no_earlier_logits",
    ),
    Mutant(
        "positions that start anew at every step",
        "baselines/transformer.py",
        "self.positions.weight[past : past + tokens.shape[1]]",
        "self.positions.weight[: tokens.shape[1]]",
        f"{PREDICTOR_TESTS}::test_step_by_step_equals_forward",
    ),
    Mutant(
        "every layer with the first one's memory",
        "baselines/recurrent.py",
        "memory[self.parts * index : self.parts * (index + 1)]",
        "memory[: self.parts]",
        f"{PREDICTOR_TESTS}::test_step_by_step_equals_forward",
    ),
    Mutant(
        "hooks left behind",
        "sites.py",
        "            stack.callback(handle.remove)\n",
        "",
        f"{CAPTURE_TESTS}::test_what_is_seen_holds_no_graph_and_nothing_stays_behind",
    ),
    # learning
    Mutant(
        "sign of the constraint",
        "learning/implicit.py",
        "valued(loss, loss - constraint)",
        "valued(loss, loss + constraint)",
        f"{GRADIENT_TESTS}::test_implicit_is_long_unrolling",
    ),
    Mutant(
        "no gradient through time",
        "learning/settled.py",
        "tuple(own + other for own, other",
        "tuple(own + 0 * other for own, other",
        f"{GRADIENT_TESTS}::test_implicit_is_long_unrolling",
    ),
    Mutant(
        "wrong transposition through time",
        TOKEN_STEPS,
        "D * (back @ R)",
        "D * (back @ R.T)",
        f"{GRADIENT_TESTS}::test_implicit_is_long_unrolling",
    ),
    Mutant(
        "nudge counted once",
        "learning/nudged.py",
        "found, self._distance)",
        "found, self.beta)",
        f"{GRADIENT_TESTS}::test_nudging_gives_the_gradient_within_the_token_as_beta_squared",
    ),
    Mutant(
        "local energy summed over tokens",
        TOKEN_STEPS,
        "energy.cost(error).mean() for",
        "energy.cost(error).sum() for",
        f"{GRADIENT_TESTS}::test_local_is_the_explicit_outer_products",
    ),
    Mutant(
        "learning through the expectation",
        "learning/task.py",
        "        with torch.no_grad():\n            expected =",
        "        if True:\n            expected =",
        f"{GRADIENT_TESTS}::test_local_is_the_explicit_outer_products",
    ),
    Mutant(
        "sign of a graph's constraint",
        "learning/implicit.py",
        "with_weight_prior(network, valued(loss, loss - constraint))",
        "with_weight_prior(network, valued(loss, loss + constraint))",
        f"{EQUILIBRIUM_TESTS}::test_implicit_is_the_derivative_by_finite_differences",
    ),
    Mutant(
        "nudge of a graph counted once",
        "learning/nudged.py",
        "found, self._distance)",
        "found, self.beta)",
        f"{EQUILIBRIUM_TESTS}::test_nudging_is_the_difference_written_out",
    ),
    Mutant(
        "outer products summed over the batch",
        "learning/settled.py",
        "gradients, 1 / len(self.point.energy))",
        "gradients, 1.0)",
        f"{GRAPH_TESTS}::test_local_is_the_explicit_outer_products",
    ),
    Mutant(
        "tied weights learn from one of their places",
        "learning/explicit.py",
        "total[parameter] = total[parameter] + gradient if parameter in total else gradient",
        "total[parameter] = gradient",
        f"{GRAPH_TESTS}::test_local_is_the_derivative_of_the_energy_at_fixed_values",
    ),
    Mutant(
        "weights of the first iteration",
        "learning/incremental.py",
        "self.problem = self.network.problem(self.clamped)",
        "self.problem = self.problem if self.state else self.network.problem(self.clamped)",
        f"{GRAPH_TESTS}::test_incremental_is_both_steps_written_out",
    ),
    Mutant(
        "weight prior in the value",
        "learning/rule.py",
        "loss + (cost - cost.detach())",
        "loss + cost",
        f"{GRAPH_TESTS}::test_a_weight_prior_is_added_once",
    ),
    Mutant(
        "diverged rows learn",
        "learning/relaxed.py",
        "    if good.all():\n        return None",
        "    if good.any():\n        return None",
        "contracts/test_learning_rules.py::test_a_row_of_a_graph_whose_inference_diverges_is_left_out",
    ),
    Mutant(
        "the input's weights first",
        "learning/equivalences.py",
        "for index in reversed(chain):",
        "for index in chain:",
        "numerics/test_backprop_equivalents.py::test_backprop_and_its_equivalents_are_torchs_own",
    ),
    # data and training
    Mutant(
        "a skipped batch is a step of zero",
        "training/graph_task.py",
        "p.grad = None  #",
        "p.grad = torch.zeros_like(p)  #",
        f"{SUPERVISED_TESTS}::test_a_batch_that_diverged_is_skipped_and_leaves_no_trace",
    ),
    Mutant(
        "an epoch resumed at its beginning",
        "data/images.py",
        "order[self.done : len(self)]",
        "order[: len(self)]",
        f"{SUPERVISED_TESTS}::test_resumed_is_uninterrupted_bit_for_bit",
    ),
    Mutant(
        "held-out images are trained on",
        "data/images.py",
        "images.rows(order[count:].sort().values)",
        "images",
        "integration/test_images.py::test_held_out_images_are_not_trained_on",
    ),
    Mutant(
        "every batch the same",
        "data/sequences.py",
        "stream_seed(self.seed, first + k))",
        "stream_seed(self.seed, 0))",
        f"{TRAINING_TESTS}::test_a_batch_depends_on_seed_and_number_only",
    ),
    Mutant(
        "floor one token early",
        "data/sequences.py",
        "(process, tokens)[:, 1:].mean()",
        "(process, tokens)[:, :-1].mean()",
        f"{TRAINING_TESTS}::test_optimal_loss_is_the_mean_surprise_over_all_hidden_paths",
    ),
    Mutant(
        "resumed at the first batch",
        "data/sequences.py",
        "lambda: self.trainer.global_step)",
        "lambda: 0)",
        f"{TRAINING_TESTS}::test_resumed_is_uninterrupted_bit_for_bit",
    ),
    Mutant(
        "half a point of the curve lost",
        "training/callbacks.py",
        'self._sums = state_dict["sums"]',
        "pass",
        f"{TRAINING_TESTS}::test_resumed_is_uninterrupted_bit_for_bit",
    ),
    Mutant(
        "checkpoint written in place",
        "training/checkpoint.py",
        'path.with_name(f".{path.name}.part")',
        "path",
        f"{TRAINING_TESTS}::test_a_write_that_breaks_off_leaves_the_old_checkpoint",
    ),
    Mutant(
        "checkpoint that may run code",
        "training/checkpoint.py",
        "torch.load(path, map_location=map_location, weights_only=True)",
        "torch.load(path, map_location=map_location, weights_only=False)",
        f"{TRAINING_TESTS}::test_a_checkpoint_that_would_run_code_is_refused",
    ),
    # probing
    Mutant(
        "judged fold in the training set",
        "probing/regression/ridge.py",
        "ridge_path(_without(always, folds, one, other), alphas, fit_intercept)",
        "ridge_path(_without(always, folds, one), alphas, fit_intercept)",
        "numerics/test_probe_protocol.py",
    ),
    Mutant(
        "held-out fold in the training set",
        "probing/regression/ridge.py",
        "_refit(_without(always, folds, held), errors[held], alphas",
        "_refit(_without(always, folds), errors[held], alphas",
        "numerics/test_probe_protocol.py",
    ),
    Mutant(
        "shuffled across lengths",
        "probing/controls/shuffles.py",
        "rows = np.flatnonzero(shared == number)",
        "rows = np.flatnonzero(shared >= 0)",
        "numerics/test_probe_controls.py::test_each_permutation_scores_as_if_it_were_alone",
    ),
    Mutant(
        "ties count for the observed statistic",
        "probing/verdict/significance.py",
        "statistics >= observed - tie",
        "statistics > observed + tie",
        "numerics/test_verdict.py::test_rank_p_value_counts_ties_against_the_observed",
    ),
    Mutant(
        "Holm's factors in the wrong order",
        "probing/verdict/significance.py",
        "np.arange(len(values), 0, -1)",
        "np.arange(1, len(values) + 1)",
        "numerics/test_verdict.py::test_holm_by_hand",
    ),
    Mutant(
        "the smallest p value of the controls counts",
        "probing/verdict/judgement.py",
        "holm([max(each.p_value",
        "holm([min(each.p_value",
        "numerics/test_verdict.py::test_the_largest_p_value_counts",
    ),
    Mutant(
        "tokens are taken off the wrong end",
        "probing/interventions/futures.py",
        "reshape(len(futures), vocab_size**horizon, -1).sum(-1)",
        "reshape(len(futures), -1, vocab_size**horizon).sum(1)",
        "numerics/test_interventions.py::test_shorter_laws_are_marginals",
    ),
    Mutant(
        "features are drawn from any law",
        "probing/geometry/merging.py",
        "_drawn_within(groups.laws, generator)",
        "_drawn_within(groups.beliefs, generator)",
        "numerics/test_geometry.py::test_separation_is_not_fooled_by_noise_or_shuffles",
    ),
    Mutant(
        "scores not weighted by probability",
        "probing/rows/dataset.py",
        '"probability": probability_weights(self.lengths, self.probabilities)',
        '"probability": equal_weights(self.lengths)',
        "numerics/test_probe_protocol.py",
    ),
    Mutant(
        "slopes not scaled back",
        "probing/regression/principal.py",
        "directions=inverse[:, None] * vectors,",
        "directions=vectors,",
        "numerics/test_probe_ridge.py",
    ),
    Mutant(
        "features not centred",
        "probing/regression/principal.py",
        "gram = rows.xx / rows.weight - np.outer(mean_x, mean_x)",
        "gram = rows.xx / rows.weight",
        "numerics/test_probe_ridge.py",
    ),
]


@contextmanager
def copied_package():
    """A folder that holds a copy of the package and nothing else."""
    with tempfile.TemporaryDirectory(prefix="pcnet-mutant-") as folder:
        shutil.copytree(PACKAGE, Path(folder) / "pcnet", ignore=shutil.ignore_patterns("__pycache__"))
        yield Path(folder)


def run_tests(folder: Path, tests: list[str], limit: float = TIME_LIMIT) -> tuple[int, str]:
    """Exit status and output of pytest against the package in a folder."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n0", "-p", "no:cacheprovider", "--no-header", "--tb=line"]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [*command, *(str(TESTS / test) for test in tests)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return FAILED, f"nothing after {limit} s"
    return done.returncode, done.stdout + done.stderr


def is_caught(mutant: Mutant) -> bool:
    """Whether the tests fail on this defect.

    Raises:
        RuntimeError: they could not be run at all, so that nothing is known.
    """
    with copied_package() as folder:
        mutant.apply(folder / "pcnet")
        status, output = run_tests(folder, [mutant.test])
    if status not in (PASSED, FAILED):
        raise RuntimeError(f"{mutant.name}: pytest ended with status {status}\n{output}")
    return status == FAILED


def check_health(mutants: list[Mutant]) -> None:
    """Raise unless all tests named pass on the package as it is: a test that always fails catches nothing."""
    with copied_package() as folder:
        status, output = run_tests(folder, sorted({mutant.test for mutant in mutants}), TIME_LIMIT_OF_ALL)
    if status != PASSED:
        raise RuntimeError(f"the tests fail without any defect\n{output}")


def survivors(mutants: list[Mutant], workers: int = 2) -> list[str]:
    """Names of the mutants that no test notices."""
    for mutant in mutants:
        mutant.check()
    with ThreadPoolExecutor(workers) as pool:
        health = pool.submit(check_health, mutants)
        caught = [pool.submit(is_caught, mutant) for mutant in mutants]
        try:
            health.result()
            return [mutant.name for mutant, seen in zip(mutants, caught, strict=True) if not seen.result()]
        finally:
            pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    wanted = sys.argv[1:]
    chosen = [mutant for mutant in MUTANTS if not wanted or mutant.name in wanted]
    start = time.monotonic()
    alive = survivors(chosen)
    print(f"{len(chosen) - len(alive)} of {len(chosen)} mutants caught in {time.monotonic() - start:.0f} s")
    sys.exit("\n".join(f"survives: {name}" for name in alive) or None)
