//! How somebody wants the portal to look and speak, and what they want a mail about.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::codes::codes;

codes! {
    /// A language of the portal (BCP 47).
    Language {
        /// English.
        English = "en",
        /// Tamil.
        Tamil = "ta",
    }
}

codes! {
    /// Light or dark pages.
    Theme {
        /// As the system says.
        System = "system",
        /// Dark on light.
        Light = "light",
        /// Light on dark.
        Dark = "dark",
    }
}

codes! {
    /// In which units values are shown.
    Units {
        /// As they were recorded.
        Recorded = "recorded",
        /// SI units (mmol/L, kg), beside what was recorded.
        Si = "si",
        /// Conventional units (mg/dL, lb), beside what was recorded.
        Conventional = "conventional",
    }
}

codes! {
    /// What a notice is about.
    NoticeKind {
        /// Somebody opened records in an emergency.
        Emergency = "emergency",
        /// Somebody asks for access.
        Request = "request",
        /// A grant ended.
        GrantEnded = "grant-ended",
        /// Records were added.
        NewRecords = "new-records",
        /// Somebody was refused.
        Refused = "refused",
        /// Something stored is not as it was.
        Integrity = "integrity",
        /// An export can be fetched.
        ExportReady = "export-ready",
        /// A key changed.
        KeyChanged = "key-changed",
        /// A report was answered.
        ReportAnswered = "report-answered",
    }
}

/// `GET` and `PUT /v1/me/preferences`: all of them at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Preferences {
    /// The language; without it what the browser asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// Light or dark pages.
    pub theme: Theme,
    /// Name of a time zone (IANA, such as `Asia/Colombo`), at most 64 characters; without it the browser's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// In which units values are shown.
    pub units: Units,
    /// Whether titles of pages say nothing of their content.
    pub discreet_titles: bool,
    /// What is told by mail; in the portal everything is.
    pub notices: NoticePreferences,
}

/// What is told by mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoticePreferences {
    /// Whether there are mails at all. They have no content.
    pub email: bool,
    /// About what, each once.
    pub kinds: Vec<NoticeKind>,
}

/// Nothing is chosen for anybody: no mail, and each kind if mails are wanted.
impl Default for Preferences {
    fn default() -> Self {
        Self {
            language: None,
            theme: Theme::System,
            time_zone: None,
            units: Units::Recorded,
            discreet_titles: false,
            notices: NoticePreferences { email: false, kinds: NoticeKind::ALL.to_vec() },
        }
    }
}
