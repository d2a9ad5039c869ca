//! The format as its users see it: what is written is read, what is damaged is refused, what is
//! stripped comes back.

// `cfg(test)` lets helpers of tests unwrap as tests may.
#[cfg(test)]
mod damage;
#[cfg(test)]
mod fit;
#[cfg(test)]
mod flow;
#[cfg(test)]
mod generated;
#[cfg(test)]
mod invalid;
#[cfg(test)]
mod large;
#[cfg(test)]
mod old_files;
#[cfg(test)]
mod probes;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod spec;
