//! A thousand random searches over Synthea's patients: what is found, how many, in which order and over all pages is what a plain
//! look at the JSON finds ([`oracle`], which shares no code with the service).

mod oracle;

use hbc_testkit::synthea;
use hbc_types::Random;
use hbc_types::ids::AccountId;
use serde_json::Value;

use crate::app::{TestApp, each};
use oracle::{PARAMETERS, Parameter, Type};

const QUERIES: u64 = 1_000;

struct Dice(Random);

impl Dice {
    fn below(&self, limit: usize) -> usize {
        usize::try_from(u64::from_le_bytes(self.0.bytes::<8>()) % limit as u64).unwrap()
    }

    fn one<'v, T>(&self, all: &'v [T]) -> &'v T {
        &all[self.below(all.len())]
    }

    fn chance(&self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// One parameter of a query as it is sent, and what it means.
struct Asked {
    name: String,
    value: String,
    parameter: &'static Parameter,
    modifier: &'static str,
}

/// A value of a parameter as a resource that was drawn has it, written in one of the ways that a search may write it.
fn ask(dice: &Dice, parameter: &'static Parameter, resources: &[Value]) -> Option<Asked> {
    let drawn = dice.one(resources);
    let values = parameter.values(drawn);
    let value = (!values.is_empty()).then(|| *dice.one(&values))?;
    let missing = dice.chance(8);
    let (modifier, value) = match parameter.kind {
        _ if missing => ("missing", if dice.chance(50) { "true" } else { "false" }.to_owned()),
        Type::Token => {
            let (system, code) = oracle::token(value)?;
            let text = match (dice.below(4), system) {
                (0, Some(system)) => format!("{system}|{code}"),
                (1, Some(system)) if parameter.is_coded => format!("{system}|"),
                (2, None) if parameter.is_coded => format!("|{code}"),
                _ => code.to_owned(),
            };
            let text = if dice.chance(20) { format!("nobody,{text}") } else { text };
            (if dice.chance(15) { "not" } else { "" }, text)
        }
        Type::Date => {
            let text = value.as_str().or_else(|| value["start"].as_str())?;
            let shorter = *dice.one(&[4, 7, 10, text.len()]);
            let prefix = *dice.one(&["", "eq", "ne", "lt", "gt", "le", "ge", "sa", "eb"]);
            ("", format!("{prefix}{}", text.get(..shorter).unwrap_or(text)))
        }
        Type::Reference => {
            let text = value["reference"].as_str()?;
            let text = if dice.chance(40) { text.split('/').next_back()? } else { text };
            ("", text.to_owned())
        }
        Type::Quantity => {
            let number = value["value"].to_string();
            let prefix = *dice.one(&["", "ne", "lt", "gt", "le", "ge", "sa", "eb"]);
            let digits = if dice.chance(50) { number.clone() } else { number.split('.').next()?.to_owned() };
            let unit = value["code"].as_str().unwrap_or_default();
            let rest = match dice.below(3) {
                0 => format!("|http://unitsofmeasure.org|{unit}"),
                1 => format!("||{unit}"),
                _ => String::new(),
            };
            ("", format!("{prefix}{digits}{rest}"))
        }
        Type::Text => {
            let text = value.as_str()?;
            match dice.below(3) {
                0 => ("exact", text.to_owned()),
                1 => ("contains", text.chars().skip(1).take(3).collect::<String>().to_uppercase()),
                _ => ("", text.chars().take(1 + dice.below(4)).collect::<String>().to_uppercase()),
            }
        }
    };
    if value.trim().is_empty() || value.contains('\\') {
        return None;
    }
    let name = match modifier {
        "" => parameter.name.to_owned(),
        modifier => format!("{}:{modifier}", parameter.name),
    };
    // A comma would be an alternative.
    let value = if parameter.kind == Type::Text { value.replace(',', "\\,") } else { value };
    Some(Asked { name, value, parameter, modifier })
}

fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// All that the account may see of its own, oldest first.
async fn everything(app: &TestApp, account: &AccountId) -> Vec<Value> {
    let mut path = format!("/fhir/Patient/{account}/$everything?_count=300");
    let mut all = Vec::new();
    loop {
        let page = app.get(account, &path).await.expect(200).body;
        all.extend(page["entry"].as_array().unwrap().iter().map(|entry| entry["resource"].clone()));
        match link(&page, "next") {
            Some(next) => path = next,
            None => return all,
        }
    }
}

fn link(bundle: &Value, relation: &str) -> Option<String> {
    let links = bundle["link"].as_array().unwrap();
    let url = links.iter().find(|link| link["relation"] == relation)?["url"].as_str().unwrap();
    Some(format!("/fhir{}", url.split_once("/fhir").unwrap().1))
}

fn ids(bundle: &Value) -> Vec<String> {
    let entries = bundle["entry"].as_array().into_iter().flatten();
    entries.map(|entry| entry["resource"]["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn random_searches_find_what_a_look_at_the_json_finds() {
    each(|app| async move {
        app.directory().await;
        let account = app.patient();
        let bundle = synthea::bundle(synthea::SMALLEST[2]).unwrap();
        app.fhir(&account, "/fhir", &[], &bundle).await.expect(200);
        let all = everything(&app, &account).await;
        let dice = Dice(Random::seeded(20_261_201));
        let (mut done, mut nonempty) = (0, 0);
        while done < QUERIES {
            let (kind, parameters) = dice.one(PARAMETERS);
            let of_kind: Vec<Value> =
                all.iter().filter(|one| one["resourceType"] == *kind).cloned().collect();
            if of_kind.is_empty() {
                continue;
            }
            let wanted = 1 + dice.below(3);
            let asked: Vec<Asked> =
                (0..wanted).filter_map(|_| ask(&dice, dice.one(parameters), &of_kind)).collect();
            if asked.is_empty() {
                continue;
            }
            let mut expected: Vec<&Value> = of_kind
                .iter()
                .filter(|one| {
                    asked.iter().all(|asked| asked.parameter.holds(one, asked.modifier, &asked.value))
                })
                .collect();
            let mut query: Vec<String> =
                asked.iter().map(|one| format!("{}={}", one.name, escaped(&one.value))).collect();
            // Only what is ordered the same by everybody's rules: dates, then the order in which it was written.
            let dated = parameters.iter().find(|one| one.kind == Type::Date).filter(|_| dice.chance(50));
            if let Some(by) = dated {
                let descending = dice.chance(50);
                query.push(format!("_sort={}{}", if descending { "-" } else { "" }, by.name));
                oracle::sort(&mut expected, by, descending);
            }
            let expected: Vec<String> =
                expected.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
            nonempty += usize::from(!expected.is_empty());
            let count = *dice.one(&[0, 0, 0, 3, 50]);
            check(&app, &account, kind, &query.join("&"), (count, &expected)).await;
            done += 1;
        }
        assert!(nonempty > 500, "{nonempty}");
    })
    .await;
}

/// Follows all pages; one of none counts alone.
async fn check(
    app: &TestApp,
    account: &AccountId,
    kind: &str,
    query: &str,
    (count, expected): (usize, &[String]),
) {
    let mut path = format!("/fhir/{kind}?{query}&_count={count}");
    let asked = path.clone();
    let mut found = Vec::new();
    loop {
        let page = app.get(account, &path).await.expect(200).body;
        assert_eq!(page["total"].as_u64(), Some(expected.len() as u64), "{asked}");
        found.extend(ids(&page));
        match link(&page, "next") {
            Some(next) if count > 0 && found.len() < 9 => path = next,
            _ => break,
        }
    }
    if count > 0 {
        assert_eq!(found, expected[..found.len().max(expected.len().min(count))], "{asked}");
    }
}
