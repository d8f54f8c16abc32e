"""Who is compared, where each comes from, and what each computes."""

from dataclasses import dataclass

from comparisons.library_speed.reference import Variant

TASK = Variant()
Install = tuple[str, ...]
"""Arguments of one `pip install`."""


@dataclass(frozen=True)
class Peer:
    """One row of the table.

    Attributes:
        name: short, for the command line and files.
        label: for people.
        implementation: module and class in ``comparisons/peers``.
        installs: what its environment gets, one `pip install` each; none where it runs in this very environment.
        variant: what it computes.
        family: rows drawn in the same colour.
        note: what a reader should know.
        xla_flags: for XLA, where its defaults are not what serves this peer best.
    """

    name: str
    label: str
    implementation: str
    installs: tuple[Install, ...] = ()
    variant: Variant = TASK
    family: str = "torch"
    note: str = ""
    xla_flags: str = ""


PCNET = Peer("pcnet", "pcnet", "pcnet_step:Step", family="pcnet")
PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "pcx",
            "PCX, as indexed",
            "pcx_step:Step",
            (("pcx==0.6.3", "jax==0.4.38", "jaxlib==0.4.38", "equinox==0.11.12", "optax==0.2.5"),),
            family="jax",
            note="everything under one jit; XLA's older CPU runtime, as fast on the small task, a third faster on the large one",
            xla_flags="--xla_cpu_use_thunk_runtime=false",
        ),
        Peer(
            "pcx_new_jax",
            "PCX on a new JAX",
            "pcx_step:Step",
            (("jax==0.10.2", "jaxlib==0.10.2", "equinox==0.13.8", "optax==0.2.8"), ("--no-deps", "pcx==0.6.3")),
            family="jax",
            note="the same release outside its own pins, everything under one jit",
        ),
        Peer(
            "fabricpc",
            "FabricPC",
            "fabricpc_step:Step",
            (("fabricpc==0.6.0", "jax==0.10.2", "jaxlib==0.10.2", "optax==0.2.8"),),
            family="jax",
            note="its own jitted train step",
        ),
        Peer(
            "ngclearn",
            "ngc-learn",
            "ngclearn_step:Step",
            (("ngclearn==3.2.1", "ngcsimlib==3.1.1", "jax==0.10.2", "jaxlib==0.10.2"),),
            Variant(activation_first=True, summed=True),
            family="jax",
            note="its own scan over the iterations",
        ),
        Peer(
            "torch_compile",
            "torch by hand, compiled",
            "torch_loops:Compiled",
            note="torch.compile of the unrolled loop",
        ),
        Peer(
            "torch_states",
            "torch autograd, values only",
            "torch_loops:StatesOnly",
            note="weights need no gradient meanwhile",
        ),
        Peer(
            "torch_tutorial", "torch, as tutorials", "torch_loops:Tutorial", note="weights require gradients all along"
        ),
    )
}
MATRICES = {
    name: Peer(name, "matrix products", f"matrix_product:{product}")
    for name, product in (("matrix256", "Product256"), ("matrix1024", "Product1024"))
}
"""Workers that measure the machine: products of 256 x n by n x n."""
