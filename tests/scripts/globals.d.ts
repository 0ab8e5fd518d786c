/** The styles of a view, which `workbench.views.shared.widget.script` puts before its modules. */
declare const STYLES: string;
