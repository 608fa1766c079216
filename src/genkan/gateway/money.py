"""Money at the edges: nano-dollars, which are whole numbers, as decimals and back. No float is ever added up."""

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

_NANO = 10**9
_MOST_DIGITS = 12  # of dollars; anything beyond is a typing error and not an amount


def usd_text(nano_usd: int) -> str:
    """Dollars with nine decimals, exactly: 1_500_000_000 is "1.500000000"."""
    dollars, rest = divmod(abs(nano_usd), _NANO)
    return f"{'-' if nano_usd < 0 else ''}{dollars}.{rest:09d}"


def usd_number(nano_usd: int) -> float:
    """Dollars for display: the float nearest to the exact amount, which prints as it below a million dollars."""
    return nano_usd / _NANO


def read_usd(text: str) -> int:
    """Dollars as somebody wrote them, such as "0.42" or "1e-05", as nano-dollars, rounded half up.

    Raises ValueError for what is not a finite number, or a million millions and more.
    """
    try:
        dollars = Decimal(text.strip())
    except InvalidOperation:
        raise ValueError(f"not a number: {text[:40]!r}") from None
    if not dollars.is_finite() or dollars.adjusted() >= _MOST_DIGITS:
        raise ValueError(f"not an amount: {text[:40]!r}")
    return int((dollars * _NANO).to_integral_value(ROUND_HALF_UP))
