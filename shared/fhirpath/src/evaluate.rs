//! What an expression is of a resource.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use smallvec::smallvec;

use crate::budget::{Budget, Exhausted};
use crate::expression::{Function, Node, Operator};
use crate::item::{Item, Items, Key, Scalar};
use crate::order;

/// What an expression is evaluated of.
pub(crate) struct Evaluation<'v, 'b> {
    pub resource: Item<'v>,
    pub context: Item<'v>,
    pub budget: &'b Budget,
}

/// A truth value as a collection.
fn one<'v>(value: Option<bool>) -> Items<'v> {
    value.map(Item::Boolean).into_iter().collect()
}

impl<'v> Evaluation<'v, '_> {
    /// An expression as a truth value. One item that is none counts as true, and so do several: they are there.
    pub fn truth(&self, node: &Node, this: &Item<'v>) -> Result<Option<bool>, Exhausted> {
        Ok(match node {
            Node::Boolean(value) => Some(*value),
            Node::Binary(operator, left, right) => match operator {
                Operator::And => match self.truth(left, this)? {
                    Some(false) => Some(false),
                    Some(true) => self.truth(right, this)?,
                    None => self.truth(right, this)?.filter(|right| !right),
                },
                Operator::Or => match self.truth(left, this)? {
                    Some(true) => Some(true),
                    Some(false) => self.truth(right, this)?,
                    None => self.truth(right, this)?.filter(|right| *right),
                },
                Operator::Implies => match self.truth(left, this)? {
                    Some(false) => Some(true),
                    Some(true) => self.truth(right, this)?,
                    None => self.truth(right, this)?.filter(|right| *right),
                },
                Operator::Xor => match (self.truth(left, this)?, self.truth(right, this)?) {
                    (Some(left), Some(right)) => Some(left != right),
                    _ => None,
                },
                _ => truth(&self.collect(node, this)?),
            },
            Node::Call(base, function) => match function {
                Function::Not => self.truth(base, this)?.map(|value| !value),
                Function::Exists => Some(!self.collect(base, this)?.is_empty()),
                Function::Empty => Some(self.collect(base, this)?.is_empty()),
                _ => truth(&self.collect(node, this)?),
            },
            _ => truth(&self.collect(node, this)?),
        })
    }

    fn collect(&self, node: &Node, this: &Item<'v>) -> Result<Items<'v>, Exhausted> {
        self.budget.spend(1)?;
        Ok(match node {
            Node::This => smallvec![this.clone()],
            Node::Resource => smallvec![self.resource.clone()],
            Node::Context => smallvec![self.context.clone()],
            Node::Text(text) => smallvec![Item::Text(Arc::clone(text))],
            Node::Number(number) => smallvec![Item::Number(*number)],
            Node::Boolean(value) => smallvec![Item::Boolean(*value)],
            Node::Root(kind) => Some(this).filter(|this| this.is(kind)).cloned().into_iter().collect(),
            Node::Child(base, step) => {
                let mut found = Items::new();
                if let Node::This = **base {
                    this.step(step, &mut found, self.budget)?;
                    return Ok(found);
                }
                for item in self.collect(base, this)? {
                    item.step(step, &mut found, self.budget)?;
                }
                found
            }
            Node::Iif(condition, then, otherwise) => match (self.truth(condition, this)?, otherwise) {
                (Some(true), _) => self.collect(then, this)?,
                (_, Some(otherwise)) => self.collect(otherwise, this)?,
                (_, None) => Items::new(),
            },
            Node::Call(base, function) => self.call(base, function, this)?,
            Node::Binary(operator, left, right) => match operator {
                Operator::And | Operator::Or | Operator::Xor | Operator::Implies => {
                    one(self.truth(node, this)?)
                }
                _ => self.binary(*operator, &self.collect(left, this)?, &self.collect(right, this)?)?,
            },
        })
    }

    fn binary(
        &self,
        operator: Operator,
        left: &Items<'v>,
        right: &Items<'v>,
    ) -> Result<Items<'v>, Exhausted> {
        Ok(match operator {
            Operator::Equal => one(self.equal(left, right)?),
            Operator::NotEqual => one(self.equal(left, right)?.map(|equal| !equal)),
            Operator::In => one(self.all_in(left, right)?),
            Operator::Contains => one(self.all_in(right, left)?),
            Operator::Union => self.union(left, right)?,
            Operator::Plus => match (number(left), number(right)) {
                (Some(left), Some(right)) => smallvec![Item::Number(left + right)],
                _ => Items::new(),
            },
            Operator::Concat => {
                let (left, right) = (string(left), string(right));
                self.budget.spend_bytes(left.len().saturating_add(right.len()))?;
                smallvec![Item::Text(format!("{left}{right}").into())]
            }
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
                match (left.as_slice(), right.as_slice()) {
                    ([left], [right]) => one(order::holds(operator, left, right)),
                    _ => Items::new(),
                }
            }
            Operator::And | Operator::Or | Operator::Xor | Operator::Implies => Items::new(),
        })
    }

    fn call(&self, base: &Node, function: &Function, this: &Item<'v>) -> Result<Items<'v>, Exhausted> {
        let focus = self.collect(base, this)?;
        Ok(match function {
            Function::Not => one(truth(&focus).map(|value| !value)),
            Function::Exists => one(Some(!focus.is_empty())),
            Function::Empty => one(Some(focus.is_empty())),
            Function::HasValue => one(Some(matches!(focus.as_slice(), [item] if item.scalar().is_some()))),
            #[expect(clippy::cast_precision_loss, reason = "no resource has so many elements")]
            Function::Count => smallvec![Item::Number(focus.len() as f64)],
            Function::First => focus.into_iter().take(1).collect(),
            Function::Tail => focus.into_iter().skip(1).collect(),
            Function::Children => self.children(&focus)?,
            Function::Descendants => self.descendants(&focus)?,
            Function::IsDistinct => one(Some(self.is_distinct(&focus)?)),
            Function::ToText => focus.first().and_then(to_text).into_iter().collect(),
            Function::ToInteger => focus.first().and_then(to_integer).into_iter().collect(),
            Function::All(criterion) => one(Some(self.all(criterion, &focus)?)),
            Function::Where(criterion) => self.filter(criterion, focus)?,
            Function::Select(projection) => {
                let mut found = Items::new();
                for item in &focus {
                    found.extend(self.collect(projection, item)?);
                }
                found
            }
            Function::StartsWith(part) => {
                one(Some(self.has_text(&focus, part, this, |text, part| text.starts_with(part))?))
            }
            Function::Contains(part) => {
                one(Some(self.has_text(&focus, part, this, |text, part| text.contains(part))?))
            }
            Function::Intersect(other) => self.intersect(&focus, &self.collect(other, this)?)?,
            Function::Combine(other) => {
                let mut all = focus;
                all.extend(self.collect(other, this)?);
                all
            }
            Function::Matches(pattern) => match focus.first().and_then(Item::text) {
                Some(text) => {
                    self.budget.spend(text.len())?;
                    one(Some(pattern.is_match(text)))
                }
                None => one(Some(false)),
            },
            Function::ReplaceMatches(pattern, by) => match focus.first().and_then(Item::text) {
                Some(text) => {
                    self.budget.spend(text.len())?;
                    smallvec![Item::Text(pattern.replace_all(text, by.as_str()).into())]
                }
                None => Items::new(),
            },
            // What is not there is of no type: R4's ras-2 takes it so, and so does the standard's reference implementation.
            Function::Is(kind) => one(Some(focus.first().is_some_and(|item| item.is(kind)))),
            Function::OfType(kind) => focus.into_iter().filter(|item| item.is(kind)).collect(),
        })
    }

    /// Whether a text meets a test with another. One that is not there meets none, as in the standard's reference
    /// implementation, and as R4's invariants take it.
    fn has_text(
        &self,
        focus: &Items<'v>,
        part: &Node,
        this: &Item<'v>,
        test: impl Fn(&str, &str) -> bool,
    ) -> Result<bool, Exhausted> {
        let part = self.collect(part, this)?;
        let texts = (focus.first().and_then(Item::text), part.first().and_then(Item::text));
        let (Some(text), Some(part)) = texts else { return Ok(false) };
        self.budget.spend_bytes(text.len().saturating_add(part.len()))?;
        Ok(test(text, part))
    }

    fn all(&self, criterion: &Node, focus: &Items<'v>) -> Result<bool, Exhausted> {
        for item in focus {
            if self.truth(criterion, item)? != Some(true) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn filter(&self, criterion: &Node, focus: Items<'v>) -> Result<Items<'v>, Exhausted> {
        let mut kept = Items::new();
        for item in focus {
            if self.truth(criterion, &item)? == Some(true) {
                kept.push(item);
            }
        }
        Ok(kept)
    }

    fn children(&self, focus: &Items<'v>) -> Result<Items<'v>, Exhausted> {
        let mut found = Items::new();
        for item in focus {
            item.children(&mut found, self.budget)?;
        }
        Ok(found)
    }

    fn descendants(&self, focus: &Items<'v>) -> Result<Items<'v>, Exhausted> {
        let mut found = self.children(focus)?;
        let mut next = 0;
        while let Some(item) = found.get(next).cloned() {
            item.children(&mut found, self.budget)?;
            next += 1;
        }
        Ok(found)
    }

    fn keys<'i>(&self, items: &'i Items<'v>) -> Result<HashSet<Key<'i>>, Exhausted> {
        self.budget.spend(items.len())?;
        items.iter().map(|item| item.key(self.budget)).collect()
    }

    fn is_distinct(&self, items: &Items<'v>) -> Result<bool, Exhausted> {
        Ok(items.len() < 2 || self.keys(items)?.len() == items.len())
    }

    fn intersect(&self, left: &Items<'v>, right: &Items<'v>) -> Result<Items<'v>, Exhausted> {
        let keys = self.keys(right)?;
        let mut found = Items::new();
        for item in left {
            if keys.contains(&item.key(self.budget)?) {
                found.push(item.clone());
            }
        }
        Ok(found)
    }

    fn union(&self, left: &Items<'v>, right: &Items<'v>) -> Result<Items<'v>, Exhausted> {
        let (mut seen, mut found) = (HashSet::new(), Items::new());
        for item in left.iter().chain(right) {
            if seen.insert(item.key(self.budget)?) {
                found.push(item.clone());
            }
        }
        Ok(found)
    }

    /// Whether all of some are among others; nothing if there are none.
    fn all_in(&self, some: &Items<'v>, others: &Items<'v>) -> Result<Option<bool>, Exhausted> {
        if some.is_empty() {
            return Ok(None);
        }
        let others = self.keys(others)?;
        for item in some {
            if !others.contains(&item.key(self.budget)?) {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }

    fn equal(&self, left: &Items<'v>, right: &Items<'v>) -> Result<Option<bool>, Exhausted> {
        if left.is_empty() || right.is_empty() {
            return Ok(None);
        }
        if left.len() != right.len() {
            return Ok(Some(false));
        }
        for (left, right) in left.iter().zip(right) {
            if left.key(self.budget)? != right.key(self.budget)? {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }
}

fn truth(items: &Items<'_>) -> Option<bool> {
    match items.as_slice() {
        [] => None,
        [item] => Some(!matches!(item.scalar(), Some(Scalar::Boolean(false)))),
        _ => Some(true),
    }
}

fn number(items: &Items<'_>) -> Option<f64> {
    match items.first()?.scalar()? {
        Scalar::Number(number) => Some(number),
        Scalar::Boolean(_) | Scalar::Text(_) => None,
    }
}

fn string<'i>(items: &'i Items<'_>) -> &'i str {
    items.first().and_then(Item::text).unwrap_or_default()
}

fn to_text<'v>(item: &Item<'v>) -> Option<Item<'v>> {
    match item {
        Item::Primitive(Some(serde_json::Value::Number(number)), ..) => {
            Some(Item::Text(number.to_string().into()))
        }
        _ => match item.scalar()? {
            Scalar::Boolean(value) => Some(Item::Text(value.to_string().into())),
            Scalar::Number(number) => Some(Item::Text(number.to_string().into())),
            Scalar::Text(text) => Some(Item::Text(text.into())),
        },
    }
}

/// A whole number, or nothing.
fn to_integer<'v>(item: &Item<'v>) -> Option<Item<'v>> {
    let number = match item.scalar()? {
        Scalar::Boolean(value) => f64::from(u8::from(value)),
        Scalar::Number(number) => number,
        Scalar::Text(text) => {
            let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
            let whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            f64::from(whole.then(|| text.parse::<i32>().ok()).flatten()?)
        }
    };
    (number.fract().partial_cmp(&0.0) == Some(Ordering::Equal)).then_some(Item::Number(number))
}
