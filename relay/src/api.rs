//! What the relay serves to pages.

pub mod assets;

pub use self::assets::DashboardSettings;
