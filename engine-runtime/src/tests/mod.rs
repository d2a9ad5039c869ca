//! Tests over small engines made by hand.

mod paths;
mod suspend;
mod toy;
