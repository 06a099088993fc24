//! The strategies, and the tests that must come out the same under each of them.

use tokio_postgres::Config;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Strategy {
    Nowait,
    Optimistic,
    Atomic,
    Grouped,
}

impl Strategy {
    pub const ALL: [Self; 4] = [Self::Nowait, Self::Optimistic, Self::Atomic, Self::Grouped];

    pub fn name(self) -> &'static str {
        match self {
            Self::Nowait => "nowait",
            Self::Optimistic => "optimistic",
            Self::Atomic => "atomic",
            Self::Grouped => "grouped",
        }
    }

    /// Sessions of this configuration purchase by this strategy.
    pub fn of(self, config: &Config) -> Config {
        let option = format!("-c flashsale.strategy={}", self.name());
        Config::clone(config.clone().options(option))
    }

    /// How much of a full crowd is sent: all of it under the default, an eighth under the
    /// others, so that the whole suite takes minutes.
    pub fn share(self, full: usize) -> usize {
        match self {
            Self::Nowait => full,
            _ => full / 8,
        }
    }
}

/// Each of these functions takes a strategy and is a test under every one.
macro_rules! under_each_strategy {
    ($($test:ident),+ $(,)?) => {
        under_each_strategy!(@under nowait Nowait $($test)+);
        under_each_strategy!(@under optimistic Optimistic $($test)+);
        under_each_strategy!(@under atomic Atomic $($test)+);
        under_each_strategy!(@under grouped Grouped $($test)+);
    };
    (@under $module:ident $strategy:ident $($test:ident)+) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    super::$test(crate::strategy::Strategy::$strategy).await;
                }
            )+
        }
    };
}
pub(crate) use under_each_strategy;
