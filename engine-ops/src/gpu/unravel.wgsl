var rest = i;
    var at = vec3<u32>(0u, 0u, 0u);
    for (var d = 0u; d < {{rank}}u; d++) {
        let axis = params.axes[d];
        at += (rest % axis.x) * axis.yzw;
        rest = rest / axis.x;
    }
