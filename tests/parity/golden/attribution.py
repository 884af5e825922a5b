"""Writes attribution.npz: what Zennit and Captum give for one network, in float64.

`pip install torch zennit captum`, then `python -m tests.parity.golden.attribution`. The network and
the inputs are drawn by NumPy, so that the tests can draw them again and need none of the three.
"""

import pathlib

import numpy as np

FILE = pathlib.Path(__file__).with_suffix(".npz")
TARGET = np.array([1, 2, 3])


def draw() -> dict[str, np.ndarray]:
    """Weights (NHWC, HWIO) of two convolutions with a batch norm and two dense layers; inputs."""
    rng = np.random.default_rng(0)
    return {
        "w1": rng.normal(size=(3, 3, 2, 5)) * 0.4,
        "b1": rng.normal(size=5) * 0.2,
        "w2": rng.normal(size=(3, 3, 5, 6)) * 0.3,
        "b2": rng.normal(size=6) * 0.2,
        "scale": rng.normal(size=6),
        "offset": rng.normal(size=6),
        "mean": rng.normal(size=6),
        "var": rng.uniform(0.5, 2, 6),
        "w3": rng.normal(size=(54, 7)) * 0.3,
        "b3": rng.normal(size=7) * 0.2,
        "w4": rng.normal(size=(7, 4)) * 0.5,
        "b4": rng.normal(size=4) * 0.2,
        "x": rng.normal(size=(3, 8, 8, 2)),
        "baseline": rng.normal(size=(1, 8, 8, 2)),
    }


def main() -> None:
    import torch
    from captum import attr
    from zennit import composites, rules
    from zennit.attribution import Gradient
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import LayerMapComposite, SpecialFirstLayerMapComposite
    from zennit.types import Convolution, Linear

    torch.set_default_dtype(torch.float64)
    own = {name: torch.tensor(value) for name, value in draw().items()}

    def network(pool):
        layers = torch.nn
        net = layers.Sequential(
            layers.Conv2d(2, 5, 3, padding=1),
            layers.ReLU(),
            layers.Conv2d(5, 6, 3),
            layers.BatchNorm2d(6),
            layers.ReLU(),
            pool,
            layers.Flatten(),
            layers.Linear(54, 7),
            layers.ReLU(),
            layers.Linear(7, 4),
        ).eval()
        with torch.no_grad():
            for i, w, b in ((0, "w1", "b1"), (2, "w2", "b2")):
                net[i].weight.copy_(own[w].permute(3, 2, 0, 1))
                net[i].bias.copy_(own[b])
            for i, w, b in ((7, "w3", "b3"), (9, "w4", "b4")):
                net[i].weight.copy_(own[w].T)
                net[i].bias.copy_(own[b])
            norm = net[3]
            norm.weight.copy_(own["scale"])
            norm.bias.copy_(own["offset"])
            norm.running_mean.copy_(own["mean"])
            norm.running_var.copy_(own["var"])
        return net

    x, baseline = (own[name].permute(0, 3, 1, 2) for name in ("x", "baseline"))
    onehot, target = torch.eye(4)[TARGET], torch.tensor(TARGET)
    found = {}

    def relevance(name, make, seed=lambda output: onehot * output):
        net = network(torch.nn.MaxPool2d(2))  # the canonizer changes a network for good
        with Gradient(model=net, composite=make) as attributor:
            _, r = attributor(x.clone(), seed)
        found[name] = r.permute(0, 2, 3, 1).numpy()

    merge = [SequentialMergeBatchNorm()]
    for name, make in (
        ("epsilon_alpha2_beta1", composites.EpsilonAlpha2Beta1),
        ("epsilon_alpha2_beta1_flat", composites.EpsilonAlpha2Beta1Flat),
    ):
        relevance(name, make(canonizers=merge))
    # As published, z+ without biases and epsilon with them: Zennit's EpsilonPlus treats both alike.
    plus = [(Convolution, rules.ZPlus(zero_params="bias")), (torch.nn.Linear, rules.Epsilon(1e-6))]
    for name, first in (("epsilon_plus", []), ("epsilon_plus_flat", [(Linear, rules.Flat())])):
        layers = [*plus, *composites.layer_map_base()]
        relevance(name, SpecialFirstLayerMapComposite(layers, first, canonizers=merge))
    relevance("epsilon_gamma_box", composites.EpsilonGammaBox(low=-3.0, high=3.0, canonizers=merge))
    relevance(
        "excitation",
        composites.ExcitationBackprop(canonizers=merge, zero_params="bias"),
        lambda o: onehot,
    )
    relevance("guided_backprop", composites.GuidedBackprop(), lambda o: onehot)
    relevance("deconvnet", composites.DeconvNet(), lambda o: onehot)
    relevance("beta_smooth", composites.BetaSmooth(), lambda o: onehot)
    for name, rule in (
        ("epsilon", rules.Epsilon(1e-6)),
        ("gamma", rules.Gamma(0.25)),
        ("alpha_beta", rules.AlphaBeta(2, 1)),
        ("z_plus", rules.ZPlus(zero_params="bias")),
        ("z_plus_with_bias", rules.ZPlus()),
        ("epsilon_without_bias", rules.Epsilon(1e-6, zero_params="bias")),
        ("gamma_without_bias", rules.Gamma(0.25, zero_params="bias")),
        ("alpha_beta_without_bias", rules.AlphaBeta(2, 1, zero_params="bias")),
        ("box", rules.ZBox(-3.0, 3.0)),
        ("w_square", rules.WSquare(zero_params="bias")),
        ("flat", rules.Flat()),
    ):
        layers = [(Linear, rule), *composites.layer_map_base()]
        relevance(f"rule_{name}", LayerMapComposite(layers, canonizers=merge))

    def captum(name, method, net=None, **options):
        found[name] = (
            method(net or network(torch.nn.MaxPool2d(2)))
            .attribute(x.clone(), target=target, **options)
            .detach()
            .permute(0, 2, 3, 1)
            .numpy()
        )

    mask = torch.tensor(segments()).permute(2, 0, 1)[None].expand(1, 2, 8, 8)
    window = {"sliding_window_shapes": (2, 3, 3), "strides": (2, 2, 2)}
    captum("saliency", attr.Saliency)
    captum("integrated_gradients", attr.IntegratedGradients, baselines=baseline, n_steps=20)
    captum("captum_guided_backprop", attr.GuidedBackprop)
    captum("ablation", attr.FeatureAblation, baselines=baseline, feature_mask=mask)
    captum("occlusion", attr.Occlusion, **window)
    # Captum's rule for max pooling does not add up; average pooling has none.
    mean = network(torch.nn.AvgPool2d(2))
    captum("deep_lift", attr.DeepLift, mean, baselines=baseline.expand(3, -1, -1, -1))
    torch.manual_seed(0)
    several = torch.cat([baseline, -baseline])
    captum("gradient_shap", attr.GradientShap, mean, baselines=several, n_samples=4000)
    net = network(torch.nn.MaxPool2d(2))
    cam = attr.LayerGradCam(net, net[4]).attribute(x, target=target, relu_attributions=True)
    found["grad_cam"] = cam.detach()[:, 0].numpy()
    np.savez_compressed(FILE, **found)
    print(FILE.name, {name: value.shape for name, value in found.items()})


def segments() -> np.ndarray:
    """(8, 8, 1), four squares."""
    return np.kron(np.arange(4).reshape(2, 2), np.ones((4, 4), int))[..., None]


if __name__ == "__main__":
    main()
