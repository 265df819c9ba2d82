//! What expressions are of small resources, what is refused when they are read, and that nothing takes long.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn choices() -> Choices {
    Choices::of([("value", "Quantity"), ("value", "Boolean"), ("value", "String"), ("value", "Decimal")])
}

fn holds(expression: &str, resource: &Value) -> bool {
    let read =
        Expression::parse(expression, &choices()).unwrap_or_else(|error| panic!("{expression}: {error}"));
    read.holds(&Item::of(resource), Item::of(resource), &Budget::new(100_000)).unwrap()
}

#[test]
fn expressions_are_true_or_not() {
    let resource = json!({"resourceType": "Observation", "status": "final", "id": "o",
        "code": {"coding": [{"system": "s", "code": "a"}, {"system": "s", "code": "b"}]},
        "valueQuantity": {"value": 5, "unit": "mg"}, "valueSet": "x",
        "_issued": {"extension": [{"url": "urn:absent", "valueString": "x"}]},
        "component": [{"code": {"coding": [{"code": "b", "system": "s"}]}, "valueBoolean": false},
            {"code": {"text": "é"}, "valueDecimal": 1.50}],
        "period": {"start": "2020", "end": "2020-05"},
        "range": {"low": {"value": 1, "unit": "mg"}, "high": {"value": 2, "unit": "g"}},
        "given": ["A", null], "_given": [null, {"id": "1"}]});
    for (expression, expected) in [
        ("status = 'final'", true),
        ("status != 'final'", false),
        ("nothing = 'final'", false),
        ("(nothing = 'final').not()", false),
        ("nothing.exists().not() and status.exists()", true),
        ("nothing.empty() xor status.empty()", true),
        ("nothing implies status.empty()", false),
        ("status.empty() implies nothing", true),
        ("nothing = 1 or true", true),
        ("nothing = 1 or false", false),
        ("Observation.status.exists() and Patient.status.empty()", true),
        ("value.exists() and value.unit = 'mg'", true),
        ("value is Quantity and (value as Quantity).value > 4", true),
        ("value.is(Quantity) and value.ofType(Boolean).empty()", true),
        ("value.count() = 1", true),
        ("component.value.count() = 2 and component.first().value is Boolean", true),
        ("component.all(value.exists())", true),
        ("component.where(value = false).code.coding.code = 'b'", true),
        ("component.code.where(coding.intersect(%resource.code.coding).exists()).exists()", true),
        ("component.first().code.coding.intersect(%resource.code.coding.where(code = 'a')).empty()", true),
        ("component.tail().code.text.startsWith('é')", true),
        ("code.coding.select(code & system).isDistinct()", true),
        ("code.coding.select(system).isDistinct()", false),
        ("code.coding.system.combine($this.descendants().system).count() = 5", true),
        ("issued.exists() and issued.hasValue().not() and issued.extension.url = 'urn:absent'", true),
        ("given.count() = 2 and given.where(hasValue()).count() = 1", true),
        ("status in ('draft' | 'final')", true),
        ("('draft' | 'draft' | 'final').count() = 2", true),
        ("(status | id) contains 'o'", true),
        ("period.start <= period.end and period.end <= period.start", true),
        ("range.low <= range.high", false),
        ("range.low <= range.low", true),
        ("component.tail().value.toString().contains('.')", true),
        ("'12'.toInteger() >= 12 and ('a'.toInteger() >= 0).empty()", true),
        ("iif(status = 'final', 1 + 1 = 2, false)", true),
        ("iif(nothing, true).empty()", true),
        ("status.matches('[a-z]{1,5}') and status.matches('fin').not()", true),
        ("'a.b'.replaceMatches('\\\\..*', '') = 'a'", true),
        ("children().coding.exists() and children().status.empty()", true),
        ("%context.`id` = 'o' and (id.trace('x', status) = 'o')", true),
        ("code.coding.where(system = %ucum).empty()", true),
        (
            "nothing.contains('/').not() and nothing.startsWith('#').not() and nothing.matches('.*').not()",
            true,
        ),
        ("nothing is Quantity implies (nothing as Quantity) > 5", true),
        ("status", true),
        ("code.coding", true),
        ("valueSet = 'x'", true),
    ] {
        assert_eq!(holds(expression, &resource), expected, "{expression}");
    }
}

#[test]
fn what_is_not_known_is_refused_when_it_is_read() {
    let error = |text: &str| Expression::parse(text, &choices()).unwrap_err();
    for unknown in
        ["resolve()", "a.htmlChecks()", "%rootResource.a", "$index", "a.memberOf('b')", "a.iif(true, 1)"]
    {
        assert!(matches!(error(unknown), ParseError::Unknown(_)), "{unknown}: {}", error(unknown));
    }
    for wrong in [
        "",
        "a =",
        "a b",
        "a.",
        "(a",
        "a)",
        "a ~ b",
        "'a",
        "a[0]",
        "a.exists(",
        "'\\x'",
        "a.matches(b)",
        "{}",
    ] {
        error(wrong);
    }
    assert_eq!(error("'a'.matches('[')"), ParseError::Pattern("[".to_owned()));
    for deep in ["(".repeat(10_000), "a.".repeat(10_000) + "b", "a and (".repeat(10_000)] {
        assert_eq!(error(&deep), ParseError::Deep);
    }
}

#[test]
fn what_takes_too_long_is_given_up() {
    let many: Vec<Value> = (0..3000).map(|number| json!({"code": number.to_string()})).collect();
    let resource = json!({"a": many, "text": "x".repeat(100_000)});
    for costly in ["a.all(%resource.a.code contains code)", "a.select(%resource.text & code).isDistinct()"] {
        let read = Expression::parse(costly, &choices()).unwrap();
        let budget = Budget::new(100_000);
        assert_eq!(
            read.holds(&Item::of(&resource), Item::of(&resource), &budget),
            Err(Exhausted),
            "{costly}"
        );
        let cheap = Expression::parse("true or a.exists()", &choices()).unwrap();
        assert_eq!(cheap.holds(&Item::of(&resource), Item::of(&resource), &Budget::new(10)), Ok(true));
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a2T:0-9.Z+é-]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let name = prop_oneof![
            Just("a"),
            Just("_a"),
            Just("value"),
            Just("valueQuantity"),
            Just("_valueBoolean"),
            Just("b"),
            Just("resourceType")
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name.prop_map(str::to_owned), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever the JSON is, of form or not: no panic, and no more than the budget allows.
    #[test]
    fn any_json_has_an_answer(value in json_value(), steps in 0_u64..2000) {
        for expression in [
            "a <= value and value >= b or a < b xor a > value",
            "descendants().value.isDistinct() implies children().select(a & b).count() + 1 > 2",
            "a.intersect(b).combine(value).first().toString().contains('0') or a in b or a contains value",
            "(a | b | value).all($this is Quantity or toInteger() >= 0 or hasValue())",
            "a.where(value.matches('[0-9]*')).b.replaceMatches('0', 'a').startsWith('a') = (b as Quantity).exists()",
            "iif(a, b.tail(), value).ofType(Boolean).not()",
        ] {
            let read = Expression::parse(expression, &choices()).unwrap();
            let _answer = read.holds(&Item::of(&value), Item::of(&value), &Budget::new(steps));
        }
    }

    /// Whatever is read as an expression: no panic.
    #[test]
    fn any_text_is_read_or_refused(text in "[a-c.()='|&+<>, %$`\\\\0-9{}é]{0,40}") {
        let _read = Expression::parse(&text, &choices());
    }
}
