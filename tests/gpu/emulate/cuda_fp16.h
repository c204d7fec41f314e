// SPDX-License-Identifier: MIT
// Stands in for the toolkit's header of this name.
#include "emulate.hpp"
