"""Raw recordings acted by a kinematic model."""
