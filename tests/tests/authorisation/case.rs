//! One operation with its callers: who is refused and how, and who is served.

use anyhow::Result;
use hbc_testkit::callers;
use hbc_tests::ask::{Ask, Credentials};
use hbc_tests::examples::{self, Example};
use hbc_tests::reply::Reply;
use hbc_tests::spec::{Access, Operation};
use hbc_tests::{Person, TestApp};
use hbc_types::account::{Role, ServiceRole};
use hbc_types::ids::AccountId;
use reqwest::Method;
use serde::Serialize;
use serde_json::Value;

/// What a caller is expected to get.
#[derive(Clone, Debug)]
enum Expected {
    /// One of these statuses.
    Status(Vec<u16>),
    /// A listing without anything in it.
    Nothing,
}

#[derive(Clone, Debug)]
struct Caller {
    name: String,
    role: Option<Role>,
    token: Option<String>,
    service: Option<ServiceRole>,
    purpose: bool,
    body: Option<Vec<u8>>,
    expected: Expected,
}

/// An operation, a request for it, and its callers in the order in which they try.
#[derive(Clone, Debug)]
pub struct Case {
    /// `service METHOD /path`.
    pub name: &'static str,
    ask: Ask,
    strangers: Vec<Caller>,
    rightful: Vec<Caller>,
    everybody: Option<&'static str>,
    anonymous: Option<Vec<u16>>,
}

impl Case {
    /// A case of the operation `name`, its template filled with `arguments` in order.
    pub fn new(name: &'static str, arguments: &[&str]) -> Self {
        let mut words = name.split(' ');
        let (service, method, template) =
            (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let mut arguments = arguments.iter();
        let parts = template
            .split('/')
            .map(|part| if part.starts_with('{') { arguments.next().unwrap() } else { part });
        let path = parts.collect::<Vec<_>>().join("/");
        let process = if service == "ledger" { "node-1" } else { service };
        Self {
            name,
            ask: Ask::new(process, Method::from_bytes(method.as_bytes()).unwrap(), path),
            strangers: Vec::new(),
            rightful: Vec::new(),
            everybody: None,
            anonymous: None,
        }
    }

    /// With a query.
    pub fn query(mut self, query: &str) -> Self {
        self.ask.path = format!("{}?{query}", self.ask.path);
        self
    }

    /// With a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.ask = self.ask.header(name, value);
        self
    }

    /// With a JSON body.
    pub fn json(mut self, body: &impl Serialize) -> Self {
        self.ask = self.ask.json(body).unwrap();
        self
    }

    /// With a body of a media type.
    pub fn body(mut self, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.ask = self.ask.body(media_type, body);
        self
    }

    /// Refused with one of these statuses.
    pub fn stranger(self, person: &Person, statuses: &[u16]) -> Self {
        self.refused(Caller::of(person, Expected::Status(statuses.to_vec())))
    }

    /// Refused with a body of their own: their password, say.
    pub fn stranger_with(self, person: &Person, body: &impl Serialize, statuses: &[u16]) -> Self {
        let mut caller = Caller::of(person, Expected::Status(statuses.to_vec()));
        caller.body = Some(serde_json::to_vec(body).unwrap());
        self.refused(caller)
    }

    /// Gets a listing without anything in it.
    pub fn sees_nothing(self, person: &Person) -> Self {
        self.refused(Caller::of(person, Expected::Nothing))
    }

    /// A service that may not call this.
    pub fn stranger_service(self, role: ServiceRole, user: Option<&Person>, statuses: &[u16]) -> Self {
        self.refused(Caller::service(role, user, statuses))
    }

    fn refused(mut self, caller: Caller) -> Self {
        self.strangers.push(caller);
        self
    }

    /// Nobody is a stranger here; why.
    pub fn for_everybody(mut self, why: &'static str) -> Self {
        self.everybody = Some(why);
        self
    }

    /// Served: a success.
    pub fn rightful(self, person: &Person) -> Self {
        self.rightful_gets(person, &[200, 201, 202, 204])
    }

    /// Served with one of these answers of the domain.
    pub fn rightful_gets(mut self, person: &Person, statuses: &[u16]) -> Self {
        self.rightful.push(Caller::of(person, Expected::Status(statuses.to_vec())));
        self
    }

    /// Served: a service, with the user who stands behind it.
    pub fn rightful_service(mut self, role: ServiceRole, user: Option<&Person>) -> Self {
        self.rightful.push(Caller::service(role, user, &[200, 201, 202, 204]));
        self
    }

    /// Public: what anybody gets.
    pub fn anybody_gets(mut self, statuses: &[u16]) -> Self {
        self.anonymous = Some(statuses.to_vec());
        self
    }

    /// What of the case's callers contradicts the list of who may call what. An operation whose list names a role may have
    /// several cases; each tries every role that the list leaves out.
    pub fn against(&self, row: &callers::Operation) -> Vec<String> {
        let mut wrong = Vec::new();
        for caller in &self.rightful {
            let listed = match (caller.service, caller.role) {
                (Some(service), _) => row.caller() == Some(service),
                (None, Some(role)) => row.serves(role),
                (None, None) => row.is_public(),
            };
            if !listed {
                wrong.push(format!("{}: {} is served and not on the list", self.name, caller.name));
            }
        }
        for role in row.strangers() {
            if !self.strangers.iter().any(|stranger| stranger.role == Some(role)) {
                wrong.push(format!("{}: no {role} tries it", self.name));
            }
        }
        wrong
    }

    /// Tries everybody; answers what was not as it should be. The first success, with its request, is added to `served`.
    pub async fn check(
        &self,
        app: &TestApp,
        operation: &Operation,
        served: &mut Vec<(Operation, Example)>,
    ) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        let mut callers = Vec::new();
        match operation.access {
            Access::Public => {
                let statuses = self.anonymous.clone().unwrap_or_else(|| vec![200, 201, 202, 204]);
                callers.push(Caller::nobody("nobody", None, &statuses));
            }
            Access::User | Access::Service | Access::Member => {
                callers.push(Caller::nobody("nobody", None, &[401]));
                callers.push(Caller::nobody("a made-up token", Some("eyJhbGciOiJub25lIn0.e30."), &[401]));
                if self.strangers.is_empty() && self.everybody.is_none() {
                    wrong.push(format!("{}: no stranger tries it", self.name));
                }
                if self.rightful.is_empty() && operation.access != Access::Member {
                    wrong.push(format!("{}: no rightful caller", self.name));
                }
            }
        }
        callers.extend(self.strangers.iter().chain(&self.rightful).cloned());
        for caller in callers {
            let (ask, reply) = caller.try_it(app, &self.ask).await?;
            let known = |(one, _): &(Operation, Example)| one.name() == self.name;
            if (200..300).contains(&reply.status) && !served.iter().any(known) && !caller.sees_nothing() {
                served.push((operation.clone(), examples::of(operation, &ask, &reply)));
            }
            if !caller.expected.fits(&reply) {
                let body: String = String::from_utf8_lossy(&reply.body).chars().take(300).collect();
                wrong.push(format!(
                    "{} by {}: {} instead of {:?}: {body}",
                    self.name, caller.name, reply.status, caller.expected
                ));
            } else if operation.access != Access::Public
                && matches!(reply.status, 200..=203)
                && reply.header("cache-control") != "no-store"
            {
                wrong.push(format!("{} by {}: what is personal may be cached", self.name, caller.name));
            } else if !operation.statuses().contains(&reply.status) {
                wrong.push(format!("{} by {}: {} is not documented", self.name, caller.name, reply.status));
            }
        }
        Ok(wrong)
    }
}

impl Expected {
    fn fits(&self, reply: &Reply) -> bool {
        match self {
            Self::Status(statuses) => statuses.contains(&reply.status),
            Self::Nothing => {
                let body = reply.json();
                let items = body.get("items").or_else(|| body.get("entry")).and_then(Value::as_array);
                // FHIR has no empty arrays: a searchset of nothing has no entries at all.
                let nothing = items.map_or(body["resourceType"] == "Bundle", Vec::is_empty);
                reply.status == 200 && nothing
            }
        }
    }
}

impl Caller {
    fn of(person: &Person, expected: Expected) -> Self {
        Self {
            name: person.username.clone(),
            role: Some(person.account.role()),
            token: Some(person.token().to_owned()),
            service: None,
            purpose: matches!(person.account, AccountId::Agency(_) | AccountId::Operator(_)),
            body: None,
            expected,
        }
    }

    fn nobody(name: &str, token: Option<&str>, statuses: &[u16]) -> Self {
        Self {
            name: name.to_owned(),
            role: None,
            token: token.map(str::to_owned),
            service: None,
            purpose: false,
            body: None,
            expected: Expected::Status(statuses.to_vec()),
        }
    }

    fn service(role: ServiceRole, user: Option<&Person>, statuses: &[u16]) -> Self {
        Self {
            name: format!("{role} for {}", user.map_or("nobody", |user| &user.username)),
            role: None,
            token: user.map(|user| user.token().to_owned()),
            service: Some(role),
            purpose: false,
            body: None,
            expected: Expected::Status(statuses.to_vec()),
        }
    }

    const fn sees_nothing(&self) -> bool {
        matches!(self.expected, Expected::Nothing)
    }

    async fn try_it(&self, app: &TestApp, ask: &Ask) -> Result<(Ask, Reply)> {
        let mut ask = ask.clone();
        if let Some(body) = &self.body {
            ask.body.clone_from(body);
        }
        if self.purpose {
            ask = ask.header("hbc-purpose", "TREAT");
        }
        let who = Credentials { token: self.token.as_deref(), service: self.service };
        let reply = app.send(&ask, who).await?;
        Ok((ask, reply))
    }
}
