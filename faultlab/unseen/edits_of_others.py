"""Changed lines of the graph network, the loss and the quantised layers."""

from __future__ import annotations

from faultlab.unseen.edits import Edit, edit

GRAPH = (
    edit(
        "graph",
        "repeated indices overwrite",
        "accumulate=True",
        "accumulate=False",
        "index_put",
        "argument, index, variant",
    ),
    edit(
        "graph",
        "degree counted at the sources",
        "index_add_(0, dst, torch.ones(dst.shape[0], dtype=x.dtype))",
        "index_add_(0, src, torch.ones(src.shape[0], dtype=x.dtype))",
        "index_add_",
        "wrong input, index",
    ),
    edit(
        "graph",
        "normalised on one side",
        "norm = degree.pow(-0.5)",
        "norm = degree.pow(-1.0)",
        "pow reciprocal",
        "argument, other operator",
    ),
    edit(
        "graph",
        "no loops of nodes to themselves",
        "src, dst = torch.cat([src, loops]), torch.cat([dst, loops])",
        "src, dst = torch.cat([src, loops])[:-n], torch.cat([dst, loops])[:-n]",
        "cat slice",
        "shape, missing operator, extra operator, index, wrong input",
        also=("degree = torch.zeros(n, dtype=x.dtype).index_add_(0, dst, torch.ones(dst.shape[0], dtype=x.dtype))",),
    ),
    edit(
        "graph",
        "shares normalised over the sources",
        "share = power / (total[dst] + 1e-4)",
        "share = power / (total[src] + 1e-4)",
        "index",
        "wrong input, index",
    ),
    edit("graph", "epsilon left out of the division", "(total[dst] + 1e-4)", "(total[dst] + 0.0)", "add", "eps"),
    edit(
        "graph",
        "mean by the size of the largest graph",
        "count = torch.bincount(graph, minlength=4).clamp(min=1)",
        "count = torch.bincount(graph, minlength=4).amax().expand(4)",
        "*",
        "other operator, extra operator, missing operator, wrong input",
    ),
    edit(
        "graph", "slope of another leaky ReLU", ", 0.2).squeeze(-1)", ").squeeze(-1)", "leaky_relu", "argument, scale"
    ),
)

LOSSY = (
    edit(
        "lossy",
        "smoothing over the other classes",
        "each = 0.9 * picked + 0.1 * smooth",
        "each = 0.9 * picked + 0.1 * 23 / 22 * smooth",
        "mul",
        "scale, argument",
    ),
    edit(
        "lossy",
        "mean over padding too",
        "token_loss = (each * real).sum() / real.sum()",
        "token_loss = (each * real).sum() / real.numel()",
        "div sum",
        "wrong input, missing operator, scale, other operator, argument",
    ),
    edit("lossy", "sum for the mean of a loss", 'reduction="mean"', 'reduction="sum"', "mse_loss", "variant, scale"),
    edit("lossy", "labels not moved", "ids[:, 1:].reshape(-1)", "ids[:, :-1].reshape(-1)", "slice", "index"),
    edit(
        "lossy",
        "the teacher learns",
        "teacher = self.mix(x).detach()",
        "teacher = self.mix(x)",
        "*",
        "extra operator, missing operator",
        also=('match = F.mse_loss(h, teacher, reduction="mean")',),
        backward=True,
    ),
    edit(
        "lossy",
        "momentum of running statistics",
        "momentum=0.1",
        "momentum=0.9",
        "*",
        "argument, rate",
        also=("h = self.norm(h.transpose(1, 2)).transpose(1, 2)",),
    ),
    edit(
        "lossy",
        "running sum kept in bfloat16",
        "context = x.cumsum(dim=1)",
        "context = x.bfloat16().cumsum(dim=1).to(x.dtype)",
        "_to_copy cumsum",
        "short type, missing upcast, accuracy",
    ),
    edit(
        "lossy",
        "mean of logarithms over the batch",
        "smooth = -logp.mean(dim=-1)",
        "smooth = -logp.mean(dim=0).mean()",
        "mean",
        "axis, extra operator",
    ),
)

QUANTIZED = (
    edit(
        "quantized",
        "one scale for all channels",
        "return sums.to(x.dtype) * step * self.scale",
        "return sums.to(x.dtype) * step * self.scale.amax()",
        "mul amax max",
        "extra operator, scale, wrong input",
    ),
    edit(
        "quantized",
        "zero point forgotten",
        "(self.weight.to(x.dtype) - self.zero)",
        "(self.weight.to(x.dtype) - 0)",
        "sub",
        "missing operator, offset, argument, wrong input, other operator",
    ),
    edit(
        "quantized",
        "zero point added",
        "(self.weight.to(x.dtype) - self.zero)",
        "(self.weight.to(x.dtype) + self.zero)",
        "sub add",
        "other operator, sign",
    ),
    edit(
        "quantized",
        "truncated, not rounded",
        "short = (x / step).round()",
        "short = (x / step).trunc()",
        "round trunc",
        "other operator",
    ),
    edit(
        "quantized",
        "scale of the tensor for that of the token",
        "step = x.abs().amax(dim=-1, keepdim=True) / 127",
        "step = x.abs().amax() / 127",
        "amax max",
        "axis, argument, other operator, shape",
    ),
    edit(
        "quantized",
        "scales of blocks along the wrong dim",
        "weight = (self.weight * self.scale).flatten(1)",
        "weight = (self.weight * self.scale.flatten(0, 1).view(3, -1, 1).transpose(0, 1)).flatten(1)",
        "*",
        "extra operator, permuted, wrong input, argument, transposed, other operator",
    ),
)

OF_OTHERS: tuple[Edit, ...] = (*GRAPH, *LOSSY, *QUANTIZED)
