//! Where on earth something is.

use crate::message::Parameters;

/// Whether latitude and longitude in degrees are a place on earth.
pub(crate) fn is_place(latitude: f64, longitude: f64) -> bool {
    latitude.abs() <= 90.0 && longitude.abs() <= 180.0
}

/// Sets latitude and longitude in degrees. False if that is no place on earth: nothing is set then.
pub(crate) fn set(parameters: &mut Parameters, latitude: f64, longitude: f64) -> bool {
    let is_place = is_place(latitude, longitude);
    if is_place {
        parameters.set("position.latitude", latitude);
        parameters.set("position.longitude", longitude);
    }
    is_place
}

/// A number of a device in another unit, without the last digits that the conversion makes up.
pub(crate) fn converted(value: f64, factor: f64) -> f64 {
    let exact = value * factor;
    let rounded = (exact * 1e6).round() / 1e6;
    if rounded.is_finite() { rounded } else { exact }
}
