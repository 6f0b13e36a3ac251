//! The small networks that templates hold where no model is named: energy and forces of points with 8 features.

use super::Framework;

pub(super) fn network(framework: Framework) -> &'static str {
    match framework {
        Framework::Torch => TORCH,
        Framework::Numpy => NUMPY,
    }
}

const TORCH: &str = r#"class Network(torch.nn.Module):
    """Energy and forces of points with features; put your own in its place."""

    def __init__(self, features: int = 8, width: int = 16) -> None:
        super().__init__()
        self.message = torch.nn.Sequential(torch.nn.Linear(2 * features + 1, width), torch.nn.SiLU())
        self.energy = torch.nn.Linear(width, 1)
        self.force = torch.nn.Linear(width, 1)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        n = len(x)
        between = x[:, None] - x[None]
        distance = between.square().sum(-1, keepdim=True)
        pairs = torch.cat([h[:, None].expand(n, n, -1), h[None].expand(n, n, -1), distance], -1)
        message = self.message(pairs)
        return {"energy": self.energy(message).sum(), "forces": (between * self.force(message)).sum(1)}


def build(dtype: torch.dtype) -> torch.nn.Module:
    """Build the model, with equal weights in every precision."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network().to(dtype)
"#;

const NUMPY: &str = r#"def build() -> Callable[..., dict[str, np.ndarray]]:
    """Build the model: energy and forces of points with features; put your own in its place."""
    weight = np.random.default_rng(0).normal(size=8)

    def network(x: np.ndarray, h: np.ndarray) -> dict[str, np.ndarray]:
        charge = np.tanh(h @ weight)[:, None, None]
        between = x[:, None] - x[None]
        pair = charge * charge.transpose(1, 0, 2) / (1 + (between**2).sum(-1, keepdims=True))
        return {"energy": np.asarray(pair.sum()), "forces": (between * pair).sum(1)}

    return network
"#;
