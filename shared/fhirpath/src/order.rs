//! Which of two values is the greater.

use serde_json::{Map, Value};

use crate::expression::Operator;
use crate::item::{Item, Scalar};
use crate::moment::Moment;

/// Whether an order holds between two items; nothing if they cannot be compared.
pub(crate) fn holds(operator: Operator, left: &Item<'_>, right: &Item<'_>) -> Option<bool> {
    match (left, right) {
        (Item::Object(left, _), Item::Object(right, _)) => quantities(operator, left, right),
        _ => match (left.scalar()?, right.scalar()?) {
            (Scalar::Number(left), Scalar::Number(right)) => numbers(operator, left, right),
            (Scalar::Text(left), Scalar::Text(right)) => {
                let (left, right) = (Moment::parse(left)?, Moment::parse(right)?);
                match operator {
                    Operator::LessOrEqual => Some(left.may_be_until(right)),
                    Operator::GreaterOrEqual => Some(right.may_be_until(left)),
                    Operator::Less => Some(!right.may_be_until(left)),
                    Operator::Greater => Some(!left.may_be_until(right)),
                    _ => None,
                }
            }
            _ => None,
        },
    }
}

fn numbers(operator: Operator, left: f64, right: f64) -> Option<bool> {
    match operator {
        Operator::LessOrEqual => Some(left <= right),
        Operator::GreaterOrEqual => Some(left >= right),
        Operator::Less => Some(left < right),
        Operator::Greater => Some(left > right),
        _ => None,
    }
}

/// Quantities of one unit: by its code where both have one, else by its name; one that says none is in the other's.
fn quantities(operator: Operator, left: &Map<String, Value>, right: &Map<String, Value>) -> Option<bool> {
    let both = |name: &str| Some((left.get(name)?.as_str()?, right.get(name)?.as_str()?));
    let one_unit = match (both("code"), both("system"), both("unit")) {
        (Some((left, right)), Some((of_left, of_right)), _) => left == right && of_left == of_right,
        (Some((left, right)), ..) => left == right,
        (None, _, Some((left, right))) => left == right,
        (None, _, None) => true,
    };
    let value = |members: &Map<String, Value>| members.get("value").and_then(Value::as_f64);
    one_unit.then(|| numbers(operator, value(left)?, value(right)?)).flatten()
}
