//! How much devices may ask for. Who may ask at all is in `flows/devices`.

use std::num::NonZeroU32;
use std::time::Duration;

use hbc_service::RateLimit;
use hbc_types::ids::DeviceId;

/// How much devices may ask for.
#[derive(Debug)]
pub struct DeviceLimits {
    /// Devices that make themselves known, by address.
    pub registrations: RateLimit<String>,
    /// Tokens of one device: each is a session for five minutes, which whoever ends them all must end.
    pub tokens: RateLimit<DeviceId>,
    /// Whatever one device asks for.
    pub requests: RateLimit<DeviceId>,
}

const fn burst(more: u32) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(more)
}

impl Default for DeviceLimits {
    /// Forty registrations at once, then one in ten seconds; twenty tokens, then one in two seconds; two hundred requests, then
    /// fifty a second.
    fn default() -> Self {
        Self {
            registrations: RateLimit::new(burst(39), Duration::from_secs(10)),
            tokens: RateLimit::new(burst(19), Duration::from_secs(2)),
            requests: RateLimit::new(burst(199), Duration::from_millis(20)),
        }
    }
}
