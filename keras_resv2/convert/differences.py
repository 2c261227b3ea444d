"""What keeps tensors from being those that a network expects."""

import dataclasses

from keras_resv2.argument_checks import some


@dataclasses.dataclass(frozen=True)
class Differences:
    """Names of tensors that do not fit.

    Attributes:
        missing: expected, and not there.
        left_over: there, and not expected.
        shapes: of another shape, as ``(name, shape found, shape expected)``.
    """

    missing: tuple
    left_over: tuple
    shapes: tuple

    @classmethod
    def between(cls, expected, tensors):
        """Differences of a dictionary of shapes and one of arrays."""
        return cls(
            tuple(name for name in expected if name not in tensors),
            tuple(name for name in tensors if name not in expected),
            tuple(
                (name, tensors[name].shape, tuple(shape))
                for name, shape in expected.items()
                if name in tensors and tensors[name].shape != tuple(shape)
            ),
        )

    @property
    def count(self):
        return len(self.missing) + len(self.left_over) + len(self.shapes)

    def phrase(self, spelled):
        """The differences in words.

        Args:
            spelled: the source's own names of its tensors, by those that are compared.
        """
        shapes = [f"{spelled[name]} is {found}, {expected} expected" for name, found, expected in self.shapes]
        kinds = (
            ("missing", self.missing, ", "),
            ("left over", [spelled[name] for name in self.left_over], ", "),
            ("of another shape", shapes, "; "),
        )
        return "; ".join(
            f"{len(names)} {'tensor is' if len(names) == 1 else 'tensors are'} {kind} ({some(names, separator)})"
            for kind, names, separator in kinds
            if names
        )
