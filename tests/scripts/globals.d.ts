/** What stands before a module where `workbench/views/shared` puts modules together. */

/** The styles of a view. */
declare const STYLES: string;
/** What a page without a kernel shows. */
declare const PAGE: any;
/** The view of such a page, or the views. */
declare const widget: { render: (page: { model: any; el: HTMLElement }) => unknown };
declare const widgets: (typeof widget)[];
