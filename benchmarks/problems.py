"""Formulas that symbolic regression is to find again, with the ranges they were published with.

Nine well-known problems (`KNOWN`) and ten equations (`DRAWN`) that a seeded draw took from the AI-Feynman
list before any engine was run on them. Sources:

- Nguyen: N. Q. Uy et al. (2011), Genet. Program. Evolvable Mach. 12, 91-119, table of target functions.
- Keijzer: M. Keijzer (2003), EuroGP, LNCS 2610, 70-82; numbered as in J. McDermott et al. (2012), GECCO.
- Korns-like: the second target of M. F. Korns (2011), Genetic Programming Theory and Practice IX, 129-151,
  with its five columns, of which two are not used, and constants of several digits. There all columns lie in
  [-50, 50] and there are 10,000 rows; here x4 stays in [1, 50], since among 500 rows the one nearest to the
  pole at 0 would decide R² alone.
- Feynman: S.-M. Udrescu, M. Tegmark (2020), Sci. Adv. 6, eaay2631, table "FeynmanEquations.csv".
- Friedman-1: J. H. Friedman (1991), Ann. Stat. 19, 1-67, section 4.3.

Published are few rows or a grid for some; here all rows are drawn uniformly, so many for each problem.
Nothing here knows an engine.
"""

from __future__ import annotations

import ast
import operator
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

N_ROWS: Final = 500
WIDER: Final = 0.3
"""How much longer the ranges are on which it shows whether a formula is the true one."""
TOLERANCE: Final = 1e-6
"""Largest relative error of a formula that counts as the true one."""
FLOOR: Final = 1e-3
"""Share of the root mean square of the truth below which a value counts as that large: around a zero of the
truth rounding alone makes any relative error."""
NOISY_R2: Final = 0.995
"""Where the training rows carry noise no constant can be exact: R² on the wider ranges, against the truth
without noise, that counts as recovery. Friedman-1 in its true form, fitted to 500 rows, reaches more; a
polynomial in place of its sine does not, since the sine turns beyond the range."""

FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "arcsin": np.arcsin,
    "cos": np.cos,
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
}
_BINARY: Final[Mapping[type, Callable[..., Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def evaluated(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """Return the value of a parsed formula: + - * / **, numbers, the names given and `FUNCTIONS`."""
    match node:
        case ast.BinOp(left, op, right):
            return _BINARY[type(op)](evaluated(left, names), evaluated(right, names))
        case ast.UnaryOp(ast.USub(), operand):
            return -evaluated(operand, names)
        case ast.Call(ast.Name(function), [argument], []):
            return FUNCTIONS[function](evaluated(argument, names))
        case ast.Name(name):
            return names[name]
        case ast.Constant(float() | int() as value):
            return float(value)
    raise ValueError(f"a formula cannot contain {ast.dump(node)}")


@dataclass(frozen=True, eq=False)
class Rows:
    """Inputs, shape (N, columns), and target, shape (N,)."""

    X: Floats
    y: Floats


@dataclass(frozen=True)
class Problem:
    """One formula to find.

    Attributes
    ----------
    name, source : str
    formula : str
        In Python's spelling.
    ranges : tuple of (name, low, high)
        The columns in their order, those included that the formula does not use.
    noise : float
        Standard deviation of what is added to the target of the training rows, and only of these.
    """

    name: str
    source: str
    formula: str
    ranges: tuple[tuple[str, float, float], ...]
    noise: float = 0.0

    @cached_property
    def _tree(self) -> ast.expr:
        return ast.parse(self.formula, mode="eval").body

    def truth(self, X: Floats) -> Floats:
        """Return the exact values, NaN or infinite where the formula has none."""
        names: dict[str, Any] = {name: X[:, k] for k, (name, _, _) in enumerate(self.ranges)}
        with np.errstate(all="ignore"):
            return np.asarray(evaluated(self._tree, {"pi": np.pi, **names}) + np.zeros(len(X)), np.float64)

    def drawn(self, rng: np.random.Generator, n: int, wider: float = 0.0) -> Rows:
        """Return `n` rows, ranges longer by the share `wider`, without those that have no finite value."""
        low, high = (np.array([one[k] for one in self.ranges], float) for k in (1, 2))
        more = wider / 2 * (high - low)
        X = rng.uniform(low - more, high + more, (n, len(low)))
        y = self.truth(X)
        finite = np.isfinite(y)
        return Rows(X[finite], y[finite])

    def data(self, seed: int, n: int = N_ROWS) -> tuple[Rows, Rows, Rows]:
        """Return training rows, test rows of the same ranges, and rows of the wider ranges, for one seed."""
        streams = np.random.default_rng([seed, zlib.crc32(self.name.encode())]).spawn(4)
        train, test, wide = (
            self.drawn(rng, n, wider) for rng, wider in zip(streams, (0, 0, WIDER), strict=False)
        )
        return Rows(train.X, train.y + self.noise * streams[3].standard_normal(len(train.y))), test, wide

    def error(self, predicted: Floats, wide: Rows) -> float:
        """Return the largest relative error on the wider ranges; infinite if a value is not finite."""
        if not np.isfinite(predicted).all():
            return float("inf")
        least = FLOOR * float(np.sqrt(np.mean(wide.y**2)))
        with np.errstate(over="ignore"):
            return float(np.max(np.abs(predicted - wide.y) / np.maximum(np.abs(wide.y), least)))

    def recovered(self, predicted: Floats, wide: Rows) -> bool:
        """Return whether these values on the wider ranges are those of the true formula."""
        if self.noise:
            return r2(predicted, wide.y) >= NOISY_R2
        return self.error(predicted, wide) <= TOLERANCE


def r2(predicted: Floats, y: Floats) -> float:
    """Return R²; minus infinity if a value is not finite."""
    if not np.isfinite(predicted).all():
        return float("-inf")
    with np.errstate(over="ignore"):
        return float(1 - np.sum((y - predicted) ** 2) / np.sum((y - y.mean()) ** 2))


def ranges(text: str) -> tuple[tuple[str, float, float], ...]:
    """Return ranges written as ``names low high``, groups of them apart by commas."""
    groups = [group.split() for group in text.split(",")]
    return tuple((name, float(low), float(high)) for *names, low, high in groups for name in names)


# ---- the AI-Feynman list -----------------------------------------------------------------------------------

_FEYNMAN: Final = """
I.6.2 | exp(-(theta/sigma)**2/2)/(sqrt(2*pi)*sigma) | sigma theta 1 3
I.6.2b | exp(-((theta-theta1)/sigma)**2/2)/(sqrt(2*pi)*sigma) | sigma theta theta1 1 3
I.8.14 | sqrt((x2-x1)**2+(y2-y1)**2) | x1 x2 y1 y2 1 5
I.10.7 | m_0/sqrt(1-v**2/c**2) | m_0 1 5, v 1 2, c 3 10
I.11.19 | x1*y1+x2*y2+x3*y3 | x1 x2 x3 y1 y2 y3 1 5
I.12.1 | mu*Nn | mu Nn 1 5
I.12.2 | q1*q2*r/(4*pi*epsilon*r**3) | q1 q2 epsilon r 1 5
I.12.4 | q1*r/(4*pi*epsilon*r**3) | q1 epsilon r 1 5
I.12.5 | q2*Ef | q2 Ef 1 5
I.12.11 | q*(Ef+B*v*sin(theta)) | q Ef B v theta 1 5
I.13.4 | 1/2*m*(v**2+u**2+w**2) | m v u w 1 5
I.13.12 | G*m1*m2*(1/r2-1/r1) | m1 m2 r1 r2 G 1 5
I.14.3 | m*g*z | m g z 1 5
I.14.4 | 1/2*k_spring*x**2 | k_spring x 1 5
I.15.3x | (x-u*t)/sqrt(1-u**2/c**2) | x 5 10, u 1 2, c 3 20, t 1 2
I.15.3t | (t-u*x/c**2)/sqrt(1-u**2/c**2) | x 1 5, c 3 10, u 1 2, t 1 5
I.15.1 | m_0*v/sqrt(1-v**2/c**2) | m_0 1 5, v 1 2, c 3 10
I.16.6 | (u+v)/(1+u*v/c**2) | c v u 1 5
I.18.4 | (m1*r1+m2*r2)/(m1+m2) | m1 m2 r1 r2 1 5
I.18.12 | r*F*sin(theta) | r F 1 5, theta 0 5
I.18.14 | m*r*v*sin(theta) | m r v theta 1 5
I.24.6 | 1/2*m*(omega**2+omega_0**2)*1/2*x**2 | m omega omega_0 x 1 3
I.25.13 | q/C | q C 1 5
I.26.2 | arcsin(n*sin(theta2)) | n 0 1, theta2 1 5
I.27.6 | 1/(1/d1+n/d2) | d1 d2 n 1 5
I.29.4 | omega/c | omega c 1 10
I.29.16 | sqrt(x1**2+x2**2-2*x1*x2*cos(theta1-theta2)) | x1 x2 theta1 theta2 1 5
I.30.3 | Int_0*sin(n*theta/2)**2/sin(theta/2)**2 | Int_0 theta n 1 5
I.30.5 | arcsin(lambd/(n*d)) | lambd 1 2, d 2 5, n 1 5
I.32.5 | q**2*a**2/(6*pi*epsilon*c**3) | q a epsilon c 1 5
I.32.17 | (1/2*epsilon*c*Ef**2)*(8*pi*r**2/3)*(omega**4/(omega**2-omega_0**2)**2) | \
epsilon c Ef r omega 1 2, omega_0 3 5
I.34.8 | q*v*B/p | q v B p 1 5
I.34.1 | omega_0/(1-v/c) | c 3 10, v 1 2, omega_0 1 5
I.34.14 | (1+v/c)/sqrt(1-v**2/c**2)*omega_0 | c 3 10, v 1 2, omega_0 1 5
I.34.27 | (h/(2*pi))*omega | omega h 1 5
I.37.4 | I1+I2+2*sqrt(I1*I2)*cos(delta) | I1 I2 delta 1 5
I.38.12 | 4*pi*epsilon*(h/(2*pi))**2/(m*q**2) | m q h epsilon 1 5
I.39.1 | 3/2*pr*V | pr V 1 5
I.39.11 | 1/(gamma-1)*pr*V | gamma 2 5, pr V 1 5
I.39.22 | n*kb*T/V | n T V kb 1 5
I.40.1 | n_0*exp(-m*g*x/(kb*T)) | n_0 m x T g kb 1 5
I.41.16 | h/(2*pi)*omega**3/(pi**2*c**2*(exp((h/(2*pi))*omega/(kb*T))-1)) | omega T h kb c 1 5
I.43.16 | mu_drift*q*Volt/d | mu_drift q Volt d 1 5
I.43.31 | mob*kb*T | mob T kb 1 5
I.43.43 | 1/(gamma-1)*kb*v/A | gamma 2 5, kb A v 1 5
I.44.4 | n*kb*T*log(V2/V1) | n kb T V1 V2 1 5
I.47.23 | sqrt(gamma*pr/rho) | gamma pr rho 1 5
I.48.2 | m*c**2/sqrt(1-v**2/c**2) | m 1 5, v 1 2, c 3 10
I.50.26 | x1*(cos(omega*t)+alpha*cos(omega*t)**2) | x1 omega t alpha 1 3
II.2.42 | kappa*(T2-T1)*A/d | kappa T1 T2 A d 1 5
II.3.24 | Pwr/(4*pi*r**2) | Pwr r 1 5
II.4.23 | q/(4*pi*epsilon*r) | q epsilon r 1 5
II.6.11 | 1/(4*pi*epsilon)*p_d*cos(theta)/r**2 | epsilon p_d theta r 1 3
II.6.15a | p_d/(4*pi*epsilon)*3*z/r**5*sqrt(x**2+y**2) | epsilon p_d r x y z 1 3
II.6.15b | p_d/(4*pi*epsilon)*3*cos(theta)*sin(theta)/r**3 | epsilon p_d theta r 1 3
II.8.7 | 3/5*q**2/(4*pi*epsilon*d) | q epsilon d 1 5
II.8.31 | epsilon*Ef**2/2 | epsilon Ef 1 5
II.10.9 | sigma_den/epsilon*1/(1+chi) | sigma_den epsilon chi 1 5
II.11.3 | q*Ef/(m*(omega_0**2-omega**2)) | q Ef m 1 3, omega_0 3 5, omega 1 2
II.11.17 | n_0*(1+p_d*Ef*cos(theta)/(kb*T)) | n_0 kb T theta p_d Ef 1 3
II.11.20 | n_rho*p_d**2*Ef/(3*kb*T) | n_rho p_d Ef kb T 1 5
II.11.27 | n*alpha/(1-(n*alpha/3))*epsilon*Ef | n alpha 0 1, epsilon Ef 1 2
II.11.28 | 1+n*alpha/(1-(n*alpha/3)) | n alpha 0 1
II.13.17 | 1/(4*pi*epsilon*c**2)*2*I/r | epsilon c I r 1 5
II.13.23 | rho_c_0/sqrt(1-v**2/c**2) | rho_c_0 1 5, v 1 2, c 3 10
II.13.34 | rho_c_0*v/sqrt(1-v**2/c**2) | rho_c_0 1 5, v 1 2, c 3 10
II.15.4 | -mom*B*cos(theta) | mom B theta 1 5
II.15.5 | -p_d*Ef*cos(theta) | p_d Ef theta 1 5
II.21.32 | q/(4*pi*epsilon*r*(1-v/c)) | q epsilon r 1 5, v 1 2, c 3 10
II.24.17 | sqrt(omega**2/c**2-pi**2/d**2) | omega 4 6, c 1 2, d 2 4
II.27.16 | epsilon*c*Ef**2 | epsilon c Ef 1 5
II.27.18 | epsilon*Ef**2 | epsilon Ef 1 5
II.34.2a | q*v/(2*pi*r) | q v r 1 5
II.34.2 | q*v*r/2 | q v r 1 5
II.34.11 | g_*q*B/(2*m) | g_ q B m 1 5
II.34.29a | q*h/(4*pi*m) | q h m 1 5
II.34.29b | g_*mom*B*Jz/(h/(2*pi)) | g_ h Jz mom B 1 5
II.35.18 | n_0/(exp(mom*B/(kb*T))+exp(-mom*B/(kb*T))) | n_0 kb T mom B 1 3
II.35.21 | n_rho*mom*tanh(mom*B/(kb*T)) | n_rho mom B kb T 1 5
II.37.1 | mom*(1+chi)*B | mom B chi 1 5
II.38.3 | Y*A*x/d | Y A d x 1 5
II.38.14 | Y/(2*(1+sigma)) | Y sigma 1 5
III.4.32 | 1/(exp((h/(2*pi))*omega/(kb*T))-1) | h omega kb T 1 5
III.4.33 | (h/(2*pi))*omega/(exp((h/(2*pi))*omega/(kb*T))-1) | h omega kb T 1 5
III.7.38 | 2*mom*B/(h/(2*pi)) | mom B h 1 5
III.8.54 | sin(E_n*t/(h/(2*pi)))**2 | E_n t 1 2, h 1 4
III.9.52 | (p_d*Ef*t/(h/(2*pi)))*sin((omega-omega_0)*t/2)**2/((omega-omega_0)*t/2)**2 | \
p_d Ef t h 1 3, omega omega_0 1 5
III.10.19 | mom*sqrt(Bx**2+By**2+Bz**2) | mom Bx By Bz 1 5
III.12.43 | n*(h/(2*pi)) | n h 1 5
III.13.18 | 2*E_n*d**2*k/(h/(2*pi)) | E_n d k h 1 5
III.14.14 | I_0*(exp(q*Volt/(kb*T))-1) | I_0 1 5, q Volt kb T 1 2
III.15.12 | 2*U*(1-cos(k*d)) | U k d 1 5
III.15.14 | (h/(2*pi))**2/(2*E_n*d**2) | h E_n d 1 5
III.15.27 | 2*pi*alpha/(n*d) | alpha n d 1 5
III.17.37 | beta*(1+alpha*cos(theta)) | beta alpha theta 1 5
III.19.51 | -m*q**4/(2*(4*pi*epsilon)**2*(h/(2*pi))**2)*(1/n**2) | m q h n epsilon 1 5
III.21.20 | -rho_c_0*q*A_vec/m | rho_c_0 q A_vec m 1 5
"""
"""Number, formula and ranges, in the published order: all equations of 2 to 6 variables. (Of the hundred,
I.6.2a has one, I.9.18 nine and II.36.38 eight.)"""


def _feynman() -> dict[str, Problem]:
    lines = [[part.strip() for part in line.split(" | ")] for line in _FEYNMAN.strip().splitlines()]
    source = "Udrescu, Tegmark 2020"
    return {
        name: Problem(f"Feynman {name}", source, formula, ranges(about)) for name, formula, about in lines
    }


FEYNMAN: Final[Mapping[str, Problem]] = _feynman()
_WELL_KNOWN: Final = ("I.6.2", "I.12.2", "I.29.16", "II.11.28")

KNOWN: Final = (
    Problem("Nguyen-5", "Uy et al. 2011", "sin(x**2)*cos(x)-1", ranges("x -1 1")),
    Problem("Nguyen-7", "Uy et al. 2011", "log(x+1)+log(x**2+1)", ranges("x 0 2")),
    Problem(
        "Keijzer-4",
        "Keijzer 2003",
        "x**3*exp(-x)*cos(x)*sin(x)*(sin(x)**2*cos(x)-1)",
        ranges("x 0 10"),
    ),
    Problem(
        "Korns-like",
        "after Korns 2011",
        "0.23+14.2*(x3+x1)/(3*x4)",
        ranges("x0 x1 x2 x3 -50 50, x4 1 50"),
    ),
    *(FEYNMAN[name] for name in _WELL_KNOWN),
    Problem(
        "Friedman-1",
        "Friedman 1991",
        "10*sin(pi*x1*x2)+20*(x3-0.5)**2+10*x4+5*x5",
        ranges("x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 0 1"),
        noise=1.0,
    ),
)

DRAW_SEED: Final = 2020


def draw(seed: int, n: int = 10) -> tuple[str, ...]:
    """Return so many equations of the list, drawn by seed from those that are not in `KNOWN`."""
    names = [name for name in FEYNMAN if name not in _WELL_KNOWN]
    chosen = np.random.default_rng(seed).choice(len(names), n, replace=False)
    return tuple(names[i] for i in sorted(chosen))


DRAWN: Final = tuple(
    FEYNMAN[name]
    for name in (
        "I.11.19",
        "I.15.3t",
        "I.34.27",
        "I.43.16",
        "I.48.2",
        "II.13.23",
        "II.15.4",
        "II.24.17",
        "II.38.3",
        "III.19.51",
    )
)
"""``draw(DRAW_SEED)``, written out: it stays the same whatever numpy's generator becomes. Drawn once, with
the first seed tried, before any engine saw one of them; nothing has been tuned to them."""

PROBLEMS: Final[Mapping[str, Problem]] = {one.name: one for one in (*KNOWN, *DRAWN)}
