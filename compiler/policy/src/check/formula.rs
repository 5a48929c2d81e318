//! The algebra of conditions: tests joined by `and`, `or` and `not`, multiplied out to one union of
//! boxes.
//!
//! Negation is pushed down to the tests. Tests of one field that stand side by side are made one test
//! first, so that a long list costs the same however it is written. The work for a condition is
//! bounded: what would come to more boxes than anybody can want is refused before it costs time.

use signalbox_proofs::{Cube, Family, absorb};

use super::predicate::Test;

/// A condition with resolved tests.
#[derive(Clone, Debug)]
pub(super) enum Formula {
    Or(Vec<Formula>),
    And(Vec<Formula>),
    Not(Box<Formula>),
    Test(Test),
}

/// A condition came to more boxes than anybody can want.
#[derive(Debug)]
pub(super) struct TooMany;

/// Boxes an intermediate union may have.
pub(super) const MAX_UNION: usize = 8_000;
/// Pairs of boxes looked at for one condition.
const MAX_PAIRS: usize = 4_000_000;

impl Formula {
    /// Holds where any of the parts does.
    pub(super) fn any(parts: Vec<Formula>) -> Formula {
        joined(parts, Formula::Or, Test::unite, Test::narrow)
    }

    /// Holds where all of the parts do.
    pub(super) fn all(parts: Vec<Formula>) -> Formula {
        joined(parts, Formula::And, Test::narrow, Test::unite)
    }

    /// The packets of these families for which the condition holds, as boxes of which none lies in
    /// another.
    pub(super) fn cubes(&self, families: &[Family]) -> Result<Vec<Cube>, TooMany> {
        let mut pairs = MAX_PAIRS;
        self.boxes(families, true, &mut pairs)
    }

    /// The one test that this is, or is the opposite of.
    fn test_mut(&mut self) -> Option<&mut Test> {
        match self {
            Formula::Test(test) => Some(test),
            Formula::Not(inner) => match &mut **inner {
                Formula::Test(test) => Some(test),
                _ => None,
            },
            Formula::Or(_) | Formula::And(_) => None,
        }
    }

    fn boxes(
        &self,
        families: &[Family],
        holds: bool,
        pairs: &mut usize,
    ) -> Result<Vec<Cube>, TooMany> {
        match self {
            Formula::Test(test) => test.cubes(families, holds),
            Formula::Not(inner) => inner.boxes(families, !holds, pairs),
            Formula::Or(parts) if holds => union(parts, families, holds, pairs),
            Formula::And(parts) if !holds => union(parts, families, holds, pairs),
            Formula::Or(parts) | Formula::And(parts) => product(parts, families, holds, pairs),
        }
    }
}

/// Joins parts, and makes one of the tests of one field among them. `whole` does that with tests that
/// stand as they are, `opposite` with those under a `not`.
fn joined(
    parts: Vec<Formula>,
    join: fn(Vec<Formula>) -> Formula,
    whole: fn(&mut Test, Test) -> Option<Test>,
    opposite: fn(&mut Test, Test) -> Option<Test>,
) -> Formula {
    // At most a few fields can be joined, and what cannot be is looked at once for each.
    const FIELDS: usize = 16;
    let mut out: Vec<Formula> = Vec::with_capacity(parts.len());
    let mut tests: Vec<(bool, usize)> = Vec::new();
    for part in parts {
        let (negated, test) = match part {
            Formula::Test(test) => (false, test),
            Formula::Not(inner) => match *inner {
                Formula::Test(test) => (true, test),
                other => {
                    out.push(Formula::Not(Box::new(other)));
                    continue;
                }
            },
            other => {
                out.push(other);
                continue;
            }
        };
        let merge = if negated { opposite } else { whole };
        let mut left = Some(test);
        for (_, at) in tests.iter().filter(|(sign, _)| *sign == negated) {
            if let Some(into) = out.get_mut(*at).and_then(Formula::test_mut)
                && let Some(test) = left.take()
            {
                left = merge(into, test);
            }
        }
        if let Some(test) = left {
            if tests.len() < FIELDS && test.joins() {
                tests.push((negated, out.len()));
            }
            let test = Formula::Test(test);
            out.push(if negated {
                Formula::Not(Box::new(test))
            } else {
                test
            });
        }
    }
    join(out)
}

fn union(
    parts: &[Formula],
    families: &[Family],
    holds: bool,
    pairs: &mut usize,
) -> Result<Vec<Cube>, TooMany> {
    let mut out = Vec::new();
    for part in parts {
        out.extend(part.boxes(families, holds, pairs)?);
        if out.len() > 2 * MAX_UNION {
            out = absorb(out);
            if out.len() > MAX_UNION {
                return Err(TooMany);
            }
        }
    }
    limited(out)
}

fn product(
    parts: &[Formula],
    families: &[Family],
    holds: bool,
    pairs: &mut usize,
) -> Result<Vec<Cube>, TooMany> {
    let mut all = Vec::with_capacity(parts.len());
    for part in parts {
        all.push(part.boxes(families, holds, pairs)?);
    }
    // Parts of one box a family cost nothing, and make the others smaller.
    let small = |boxes: &Vec<Cube>| {
        let count = |family: &Family| boxes.iter().filter(|b| b.family == *family).count();
        boxes.len() <= families.len() && families.iter().all(|f| count(f) <= 1)
    };
    let (small, large): (Vec<_>, Vec<_>) = all.into_iter().partition(small);
    let mut out: Option<Vec<Cube>> = None;
    for boxes in small.into_iter().chain(large) {
        out = Some(match out {
            None => boxes,
            Some(before) => intersection(&before, &boxes, pairs)?,
        });
    }
    Ok(out.unwrap_or_default())
}

fn intersection(a: &[Cube], b: &[Cube], pairs: &mut usize) -> Result<Vec<Cube>, TooMany> {
    let needed = a.len().saturating_mul(b.len());
    *pairs = pairs.checked_sub(needed).ok_or(TooMany)?;
    let both = a
        .iter()
        .flat_map(|x| b.iter().filter_map(|y| x.intersect(y)));
    let both: Vec<Cube> = both.take(4 * MAX_UNION + 1).collect();
    if both.len() > 4 * MAX_UNION {
        return Err(TooMany);
    }
    limited(both)
}

fn limited(boxes: Vec<Cube>) -> Result<Vec<Cube>, TooMany> {
    let boxes = if boxes.len() > 1 {
        absorb(boxes)
    } else {
        boxes
    };
    if boxes.len() > MAX_UNION {
        Err(TooMany)
    } else {
        Ok(boxes)
    }
}
